use super::*;

#[test]
fn dump() {
    for file in crd_files().unwrap() {
        std::fs::create_dir_all("/tmp/crds").unwrap();
        std::fs::write(format!("/tmp/crds/{}", file.name), file.text).unwrap();
    }
}
