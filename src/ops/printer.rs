//! What a process that runs on tells whoever reads its output, written by a thread of its own: a pipe
//! that nobody reads fills up, and then holds up that thread and nothing else.

use std::{
    io::{self, Write},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use tokio::sync::oneshot;
use tracing::warn;

/// Texts that wait to be written: more are of no use to anyone, and the newest are not taken.
const WAITING: usize = 64;

/// How long [`Printer::tell`] waits for a reader: one that is there reads within milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes texts in order; see the module.
#[derive(Debug)]
pub struct Printer {
    queue: SyncSender<Text>,
    /// The last text found no place.
    full: AtomicBool,
}

#[derive(Debug)]
struct Text {
    text: String,
    written: Option<oneshot::Sender<io::Result<()>>>,
}

impl Printer {
    /// Starts the thread. It is not waited for: it may hang as long as nobody reads.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(out: Box<dyn Write + Send>) -> io::Result<Self> {
        let (queue, texts) = sync_channel(WAITING);
        std::thread::Builder::new()
            .name("printer".to_owned())
            .spawn(move || write_all(&texts, out))?;
        Ok(Self {
            queue,
            full: AtomicBool::new(false),
        })
    }

    /// Has a line written, and doesn't wait for that.
    pub fn line(&self, line: &str) {
        self.put(Text {
            text: format!("{line}\n"),
            written: None,
        });
    }

    /// Has a text written and waits until it is, but not for a reader that doesn't read.
    ///
    /// # Errors
    /// It could not be written, such as to a pipe whose reader is gone.
    pub async fn tell(&self, text: String) -> io::Result<()> {
        let (written, outcome) = oneshot::channel();
        let written = Some(written);
        self.put(Text { text, written });
        match tokio::time::timeout(PATIENCE, outcome).await {
            Ok(Ok(outcome)) => outcome,
            // No place in the queue, or no end of the writing: nobody reads.
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }

    fn put(&self, text: Text) {
        let full = self.queue.try_send(text).is_err();
        if full && !self.full.swap(full, Ordering::Relaxed) {
            warn!("nobody reads this process's output; what it would be told there is left out");
        } else if !full {
            self.full.store(false, Ordering::Relaxed);
        }
    }
}

fn write_all(texts: &Receiver<Text>, mut out: Box<dyn Write + Send>) {
    let mut told = false;
    for Text { text, written } in texts {
        let outcome = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        match written {
            // Nobody waits for it any more where this fails.
            Some(written) => drop(written.send(outcome)),
            // Everything works, whether or not somebody still reads of it.
            None => {
                if let Err(error) = outcome
                    && !std::mem::replace(&mut told, true)
                {
                    warn!(%error, "this process's output can't be written; not logged again");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::PipeReader, sync::mpsc};

    use super::*;

    /// A printer to a pipe, and what reads it.
    fn piped() -> (Printer, PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        (Printer::start(Box::new(writer)).unwrap(), reader)
    }

    #[tokio::test]
    async fn texts_are_written_in_order_and_told_when_they_are() {
        let (printer, mut reader) = piped();
        printer.line("one");
        printer.tell("two\n".to_owned()).await.unwrap();
        printer.line("three");
        drop(printer);
        assert_eq!(
            io::read_to_string(&mut reader).unwrap(),
            "one\ntwo\nthree\n"
        );
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_an_error_and_lines_go_nowhere() {
        let (printer, reader) = piped();
        drop(reader);
        let error = printer.tell("text".to_owned()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        printer.line("line");
    }

    #[tokio::test]
    async fn a_pipe_that_nobody_reads_holds_up_nothing() {
        let (printer, mut reader) = piped();
        let much = "x".repeat(64 * 1_024);
        // Far more than a pipe holds, and than may wait.
        let (done, all) = mpsc::channel();
        let printing = std::thread::spawn(move || {
            (0..4 * WAITING).for_each(|_| printer.line(&much));
            done.send(()).unwrap();
            printer
        });
        all.recv_timeout(Duration::from_secs(60))
            .expect("nothing waits for a reader");
        let printer = printing.join().unwrap();
        printer.tell("left out".to_owned()).await.unwrap();
        drop(printer);
        let written = io::read_to_string(&mut reader).unwrap();
        let lines = written.lines().count();
        assert!((WAITING..2 * WAITING).contains(&lines), "{lines}");
    }
}
