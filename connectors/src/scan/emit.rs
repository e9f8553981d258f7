//! A stream out of straight-line async code: the code sends batches, the stream polls the code. No task is spawned, so
//! dropping the stream stops the code where it waits.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use futures::Stream;
use tokio::sync::mpsc;

use crate::{Error, Result};

/// Where the code sends its batches.
#[derive(Debug, Clone)]
pub(crate) struct Emitter(mpsc::Sender<RecordBatch>);

impl Emitter {
    /// Hands a batch on, once the one before was taken.
    pub(crate) async fn emit(&self, batch: RecordBatch) -> Result<()> {
        let gone = || Error::Internal { message: "a scan went on after its stream was dropped".to_owned() };
        self.0.send(batch).await.map_err(|_| gone())
    }
}

/// The stream of what `code` emits; an error of the code is its last item.
pub(crate) fn stream_of<F>(code: impl FnOnce(Emitter) -> F) -> impl Stream<Item = Result<RecordBatch>> + Send
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (sender, batches) = mpsc::channel(1);
    Emitted { code: Some(Box::pin(code(Emitter(sender)))), batches }
}

struct Emitted {
    code: Option<Pin<Box<dyn Future<Output = Result<()>> + Send>>>,
    batches: mpsc::Receiver<RecordBatch>,
}

impl Stream for Emitted {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // What is ready goes first, so that the code never runs more than one batch ahead.
        if let Poll::Ready(Some(batch)) = self.batches.poll_recv(context) {
            return Poll::Ready(Some(Ok(batch)));
        }
        if let Some(code) = &mut self.code {
            match code.as_mut().poll(context) {
                Poll::Pending => {}
                Poll::Ready(result) => {
                    self.code = None;
                    if let Err(error) = result {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
        }
        match self.batches.poll_recv(context) {
            Poll::Ready(Some(batch)) => Poll::Ready(Some(Ok(batch))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}
