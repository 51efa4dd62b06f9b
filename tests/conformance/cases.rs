//! The table of all cases: what a case is about, and its name.

/// Calls `$run!` with the table.
macro_rules! every_case {
    ($run:ident) => {
        crate::cases::$run! {
            builtins {
                config_map_holds_text_and_bytes,
                config_map_may_be_immutable,
                secret_encodes_string_data,
                secret_type_is_immutable,
                secret_data_is_base64,
                secret_has_a_bound,
                lease_is_taken_once,
                lease_is_validated,
                events_become_a_series,
                events_are_in_two_groups,
                events_are_validated,
            }
            concurrency {
                one_name_is_created_once,
                no_update_is_lost,
                patches_of_different_fields_all_hold,
                watchers_see_one_order,
                list_and_watch_leave_no_gap,
            }
            create {
                fills_in_metadata,
                is_what_get_answers,
                ignores_identity_from_the_caller,
                with_a_resource_version_is_refused,
                of_a_taken_name_is_already_exists,
                without_a_name_is_refused,
                of_a_bad_name_is_refused,
                generates_a_name,
                in_an_absent_namespace_names_the_namespace,
                in_another_namespace_than_the_paths_is_refused,
                of_another_kind_is_refused,
                of_no_json_is_refused,
                of_an_unknown_content_type_is_refused,
                of_yaml_is_taken,
                dry_run_leaves_nothing,
                dry_run_validates,
                dry_run_of_another_word_is_refused,
                cluster_scoped_and_in_two_versions,
            }
            definitions {
                comes_into_force,
                goes_with_its_objects,
                changes_what_holds,
                of_a_broken_rule_is_refused,
                of_a_rule_without_verdict_is_refused,
                of_another_name_is_refused,
                of_a_schema_without_types_is_refused,
                of_a_default_that_does_not_fit_is_refused,
                of_no_stored_version_is_refused,
                of_a_protected_group_needs_approval,
            }
            delete {
                answers_which_object_is_gone,
                of_a_missing_object_is_not_found,
                with_another_uid_conflicts,
                with_a_stale_version_conflicts,
                waits_for_finalizers,
                twice_keeps_the_first_time,
                forbids_new_finalizers,
                keeps_the_name_while_finalizers_wait,
                dry_run_deletes_nothing,
                in_the_background_is_done_at_once,
                of_a_collection_follows_the_selector,
                of_a_collection_stays_in_its_namespace,
                finalizer_of_a_bad_name_is_refused,
            }
            discovery {
                of_a_custom_group,
                of_groups,
                of_the_core_group,
                aggregated,
                of_the_version,
                openapi_v3,
                of_health,
            }
            kinds {
                install,
                ingestor_table,
                observation_table,
                shard_map_table,
                details_are_compared_deeply,
                details_in_another_order_are_the_same,
                observation_status_is_free,
                observations_are_selectable,
                ingestor_defaults,
                are_found_by_short_names,
                definitions_bring_no_warnings,
                observation_in_an_absent_namespace,
                samples_are_taken,
            }
            list {
                is_ordered_by_name,
                of_a_core_kind_leaves_out_the_items_kind,
                of_nothing_is_empty,
                spans_namespaces,
                pages_show_one_version,
                last_page_has_no_continuation,
                selected_pages_dont_count_the_rest,
                of_a_made_up_continuation_is_refused,
                label_selectors,
                of_a_bad_label_selector_is_refused,
                field_selectors,
                of_an_unselectable_field_is_refused,
                at_any_version,
                not_older_than_a_version,
                of_a_bad_version_is_refused,
                of_a_match_without_version_is_refused,
                of_metadata_alone,
            }
            namespaces {
                is_born_active,
                default_is_there,
                goes_with_its_contents,
                takes_nothing_while_it_goes,
                of_a_bad_name_is_refused,
            }
            patch {
                merge,
                json,
                json_test_guards,
                json_of_a_missing_path_is_refused,
                of_a_wrong_form_is_refused,
                merge_of_a_stale_version_conflicts,
                merge_of_another_uid_is_refused,
                of_nothing_keeps_the_version,
                of_a_missing_object_is_not_found,
                is_validated,
                dry_run_changes_nothing,
                strategic_of_a_custom_resource_is_unsupported,
                strategic_of_a_config_map,
                strategic_merges_owners_by_uid,
            }
            protocol {
                an_unknown_kind_is_not_found,
                an_unknown_verb_is_not_allowed,
                a_body_that_is_too_large_is_refused,
                an_unknown_representation_is_not_acceptable,
                the_first_known_representation_is_taken,
                yaml_is_a_representation,
                pretty_is_the_same,
                answers_say_their_type,
                an_unknown_parameter_is_ignored,
            }
            schema {
                fills_in_defaults,
                nulls,
                prunes_unknown_fields_with_a_warning,
                prunes_in_silence_when_asked,
                strict_refuses_unknown_fields,
                strict_looks_everywhere,
                strict_refuses_duplicate_fields,
                strict_holds_for_updates_and_patches,
                unknown_field_validation_is_refused,
                strict_holds_for_core_kinds,
                keeps_what_is_free_form,
                names_every_wrong_field,
                names_the_pattern,
                names_the_type_that_was_expected,
                names_what_is_missing,
                int_or_string,
                list_types_refuse_duplicates,
                cel_rule,
                cel_message_field_and_reason,
                cel_rule_names_the_entry,
                cel_transition_rule,
                cel_transition_rule_needs_both_values,
                metadata_is_validated,
            }
            status {
                is_not_created_with_the_object,
                is_not_changed_with_the_object,
                changes_alone,
                of_a_stale_version_conflicts,
                is_validated,
                takes_a_json_patch,
                without_the_subresource_is_a_field,
            }
            tables {
                of_a_custom_resource,
                of_one_object,
                with_as_much_of_the_object_as_asked,
                of_a_watch,
                of_core_kinds,
            }
            update {
                raises_version_and_generation,
                of_metadata_keeps_the_generation,
                of_nothing_keeps_the_version,
                of_a_stale_version_conflicts,
                of_a_custom_resource_needs_a_version,
                of_a_config_map_needs_no_version,
                of_another_uid_conflicts,
                of_a_missing_object_is_not_found,
                of_another_name_than_the_paths_is_refused,
                keeps_what_the_server_gave,
                of_the_deletion_time_is_refused,
                dry_run_changes_nothing,
            }
            watch {
                from_a_version_shows_every_change,
                that_is_open_goes_on,
                without_a_version_begins_with_what_is_there,
                by_label_shows_coming_and_going,
                by_field_shows_coming_and_going,
                of_one_name,
                shows_deletion_by_finalizer,
                ends_in_time_with_a_bookmark,
                ends_in_time,
                from_a_forgotten_version_is_expired,
                from_a_bad_version_is_refused,
                from_a_version_still_to_come_shows_nothing_before_it,
                with_the_list_of_a_version_still_to_come_is_refused,
                spans_namespaces,
                may_begin_with_the_list,
                of_metadata_alone,
                as_kube_does_it,
            }
        }
    };
}

/// One test per case, each with a bench of its own from `bench()` of the calling module.
macro_rules! run_here {
    ($($room:ident { $($case:ident,)* })*) => {
        $(
            mod $room {
                $(
                    #[tokio::test]
                    async fn $case() {
                        crate::$room::$case(&super::bench().await).await;
                    }
                )*
            }
        )*
    };
}

pub(crate) use {every_case, run_here};
