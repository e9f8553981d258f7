//! What one input of an exchange has ready for each output.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::error::{DataFusionError, Result};
use tokio::sync::Notify;

/// A queue for each output, filled by one input.
///
/// The input waits while every output has something to take. Where one output has nothing it goes on, however much the
/// others have waiting: were it to wait for them, outputs that wait for each other's inputs would wait for ever.
#[derive(Debug)]
pub(super) struct Lane<T> {
    state: Mutex<State<T>>,
    /// An output took its last item, or went away.
    space: Notify,
    /// For each output: something came, or nothing will come any more.
    news: Vec<Notify>,
}

#[derive(Debug)]
struct State<T> {
    /// What waits for each output; nothing any more for one that went away.
    queues: Vec<Option<VecDeque<T>>>,
    ending: Option<Ending>,
}

/// How an input ended.
#[derive(Debug, Clone)]
enum Ending {
    Complete,
    Failed(Arc<DataFusionError>),
}

impl<T> Lane<T> {
    pub(super) fn new(outputs: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State { queues: (0..outputs).map(|_| Some(VecDeque::new())).collect(), ending: None }),
            space: Notify::new(),
            news: (0..outputs).map(|_| Notify::new()).collect(),
        })
    }

    /// The side of the input.
    pub(super) fn sender(self: &Arc<Self>) -> Sender<T> {
        Sender { lane: Arc::clone(self) }
    }

    /// The side of the output of this number.
    pub(super) fn receiver(self: &Arc<Self>, output: usize) -> Receiver<T> {
        Receiver { lane: Arc::clone(self), output }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing that runs under the lock can leave the queues half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fills a lane. Dropped without an ending, as when its task panics, it fails the outputs.
#[derive(Debug)]
pub(super) struct Sender<T> {
    lane: Arc<Lane<T>>,
}

impl<T> Sender<T> {
    /// Waits until some output has nothing to take, then adds `item` for `output`. False if no output is left.
    pub(super) async fn send(&self, output: usize, item: T) -> bool {
        while !self.has_space() {
            // A notice that came in between is kept.
            self.lane.space.notified().await;
        }
        let mut state = self.lane.state();
        if let Some(Some(queue)) = state.queues.get_mut(output) {
            queue.push_back(item);
            self.lane.news.get(output).into_iter().for_each(Notify::notify_one);
        }
        state.queues.iter().any(Option::is_some)
    }

    fn has_space(&self) -> bool {
        let state = self.lane.state();
        let mut open = state.queues.iter().flatten().peekable();
        open.peek().is_none() || open.any(VecDeque::is_empty)
    }

    /// Tells the outputs that nothing more comes, or why.
    pub(super) fn end(self, result: Result<()>) {
        self.set(match result {
            Ok(()) => Ending::Complete,
            Err(error) => Ending::Failed(Arc::new(error)),
        });
    }

    fn set(&self, ending: Ending) {
        self.lane.state().ending.get_or_insert(ending);
        self.lane.news.iter().for_each(Notify::notify_one);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let error = DataFusionError::Execution("an input of an exchange ended early".to_owned());
        self.set(Ending::Failed(Arc::new(error)));
    }
}

/// Empties one queue of a lane.
#[derive(Debug)]
pub(super) struct Receiver<T> {
    lane: Arc<Lane<T>>,
    output: usize,
}

impl<T> Receiver<T> {
    /// The next item; `None` at the end. An item is not lost if the future is dropped.
    pub(super) async fn receive(&self) -> Result<Option<T>> {
        loop {
            if let Some(item) = self.take() {
                return Ok(Some(item));
            }
            let ending = self.lane.state().ending.clone();
            match ending {
                Some(Ending::Failed(error)) => return Err(DataFusionError::Shared(error)),
                // What came between the two looks is still to be taken.
                Some(Ending::Complete) => return Ok(self.take()),
                None => {}
            }
            let Some(news) = self.lane.news.get(self.output) else { return Ok(None) };
            news.notified().await;
        }
    }

    fn take(&self) -> Option<T> {
        let mut state = self.lane.state();
        let queue = state.queues.get_mut(self.output)?.as_mut()?;
        let item = queue.pop_front()?;
        if queue.is_empty() {
            self.lane.space.notify_one();
        }
        Some(item)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if let Some(queue) = self.lane.state().queues.get_mut(self.output) {
            *queue = None;
        }
        self.lane.space.notify_one();
    }
}
