//! Runs the command line in this process, with streams and an environment of its own.

use std::ffi::OsString;

use zen_fabric::cli::{self, Exit, Streams};

/// Exit code, output and errors of `zen-fabric ARGS`.
pub(crate) async fn zen_fabric(
    args: &[&str],
    environment: &[(&str, &str)],
    input: &str,
) -> (i32, String, String) {
    let args: Vec<OsString> = std::iter::once("zen-fabric")
        .chain(args.iter().copied())
        .map(OsString::from)
        .collect();
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let input = input.as_bytes().to_vec();
    let (exit, out, err) = tokio::task::spawn_blocking(move || {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut streams = Streams {
            input: &mut input.as_slice(),
            out: &mut out,
            told: Box::new(std::io::sink()),
            err: &mut err,
        };
        let exit = cli::run(args, environment, &mut streams);
        (exit, out, err)
    })
    .await
    .unwrap();
    let code = match exit {
        Exit::Success => 0,
        Exit::Failure => 1,
        Exit::Usage => 2,
    };
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (code, text(out), text(err))
}
