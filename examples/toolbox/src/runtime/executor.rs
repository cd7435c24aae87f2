//! The executor: tasks are futures that run until they wait; what they wait for outside (time, descriptors) is joined
//! into one `poll`. A task ends when it returns, when its handle is dropped, or when it is cancelled.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::sys;

/// A boxed future on this executor.
pub type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// How many steps a busy task makes before others get their turn.
const STEPS: u32 = 128;
/// How often descriptors are looked at while tasks are busy: ^C must work, and a look costs a call into the host.
const LOOK: Duration = Duration::from_millis(10);
/// What background tasks get to say their last words when the main one has ended.
const GRACE: Duration = Duration::from_millis(100);

type Queue = Arc<Mutex<VecDeque<u64>>>;

#[derive(Default)]
struct Runtime {
    tasks: RefCell<HashMap<u64, Option<Local<'static, ()>>>>,
    next: Cell<u64>,
    ready: Queue,
    timers: RefCell<Vec<(Instant, Waker)>>,
    descriptors: RefCell<Vec<(RawFd, bool, Waker)>>,
    steps: Cell<u32>,
}

thread_local! {
    static RUNTIME: Rc<Runtime> = Rc::new(Runtime::default());
}

fn runtime() -> Rc<Runtime> {
    RUNTIME.with(Rc::clone)
}

struct TaskWaker {
    id: u64,
    ready: Queue,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if !ready.contains(&self.id) {
            ready.push_back(self.id);
        }
    }
}

struct Shared<T> {
    id: u64,
    result: RefCell<Option<T>>,
    ended: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl<T> Shared<T> {
    fn end(&self, result: Option<T>) {
        if self.ended.replace(true) {
            return;
        }
        *self.result.borrow_mut() = result;
        for waker in self.waiting.take() {
            waker.wake();
        }
    }
}

/// A running task. Dropping it ends the task, unless it was detached.
pub struct Task<T> {
    shared: Rc<Shared<T>>,
    detached: Cell<bool>,
}

impl<T: Clone> Task<T> {
    /// Waits until the task has ended; `None` if it was cancelled.
    pub async fn join(&self) -> Option<T> {
        poll_fn(|context| {
            if self.shared.ended.get() {
                return Poll::Ready(self.shared.result.borrow().clone());
            }
            self.shared.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl<T> Task<T> {
    /// Whether the task has ended.
    pub fn ended(&self) -> bool {
        self.shared.ended.get()
    }

    /// From now on the task runs on when this handle is dropped.
    pub fn detach(&self) {
        self.detached.set(true);
    }

    /// Ends the task where it waits.
    pub fn cancel(&self) {
        if !self.shared.ended.get() {
            // Taken out first: what the future owns may end other tasks while it is dropped.
            let future = runtime().tasks.borrow_mut().remove(&self.shared.id);
            drop(future);
            self.shared.end(None);
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if !self.detached.get() {
            self.cancel();
        }
    }
}

/// Starts a task.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    let runtime = runtime();
    let id = runtime.next.replace(runtime.next.get() + 1);
    let shared = Rc::new(Shared { id, result: RefCell::new(None), ended: Cell::new(false), waiting: RefCell::new(Vec::new()) });
    let inner = Rc::clone(&shared);
    let future: Local<'static, ()> = Box::pin(async move {
        let result = future.await;
        inner.end(Some(result));
    });
    runtime.tasks.borrow_mut().insert(id, Some(future));
    runtime.ready.lock().unwrap_or_else(PoisonError::into_inner).push_back(id);
    Task { shared, detached: Cell::new(false) }
}

impl Runtime {
    fn turn(&self) -> bool {
        let round = std::mem::take(&mut *self.ready.lock().unwrap_or_else(PoisonError::into_inner));
        let busy = !round.is_empty();
        for id in round {
            // An empty place stays, by which a task that is cancelled while it runs is known.
            let Some(mut future) = self.tasks.borrow_mut().get_mut(&id).and_then(Option::take) else { continue };
            let waker = Waker::from(Arc::new(TaskWaker { id, ready: Arc::clone(&self.ready) }));
            let ended = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
            let left = {
                let mut tasks = self.tasks.borrow_mut();
                match tasks.get_mut(&id) {
                    Some(place) if !ended => {
                        *place = Some(future);
                        None
                    }
                    _ => {
                        tasks.remove(&id);
                        Some(future)
                    }
                }
            };
            drop(left);
        }
        busy
    }

    fn idle(&self) -> bool {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Looks at timers and descriptors, and waits for them if nothing else is to be done.
    fn look(&self, wait: bool) -> bool {
        let now = Instant::now();
        let next = self.timers.borrow().iter().map(|(time, _)| *time).min();
        let asked: Vec<(RawFd, bool)> = self.descriptors.borrow().iter().map(|(fd, write, _)| (*fd, *write)).collect();
        if next.is_none() && asked.is_empty() {
            return false;
        }
        let time = match (wait, next) {
            (false, _) => Some(Duration::ZERO),
            (true, Some(next)) => Some(next.saturating_duration_since(now)),
            (true, None) => None,
        };
        if wait || !asked.is_empty() {
            let ready = sys::poll(&asked, time);
            let mut list = self.descriptors.borrow_mut();
            let mut index = 0;
            let mut woken = Vec::new();
            list.retain(|(_, _, waker)| {
                let wake = ready.get(index).copied().unwrap_or(false);
                index += 1;
                if wake {
                    woken.push(waker.clone());
                }
                !wake
            });
            drop(list);
            woken.into_iter().for_each(Waker::wake);
        }
        let now = Instant::now();
        let mut due = Vec::new();
        self.timers.borrow_mut().retain(|(time, waker)| {
            if *time <= now {
                due.push(waker.clone());
            }
            *time > now
        });
        due.into_iter().for_each(Waker::wake);
        true
    }
}

/// Runs the main task to its end, and the others meanwhile. `None` if everything waits for what cannot come.
pub fn run<T: Clone + 'static>(main: impl Future<Output = T> + 'static) -> Option<T> {
    let runtime = runtime();
    let task = spawn(main);
    let mut looked = Instant::now();
    while !task.ended() {
        runtime.turn();
        if task.ended() {
            break;
        }
        if runtime.idle() {
            if !runtime.look(true) && runtime.idle() {
                return None;
            }
            looked = Instant::now();
        } else if looked.elapsed() >= LOOK {
            runtime.look(false);
            looked = Instant::now();
        }
    }
    let end = Instant::now() + GRACE;
    while Instant::now() < end && runtime.turn() {}
    task.shared.result.borrow().clone()
}

/// Lets the other tasks run.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// To be called in loops: now and then the other tasks run.
pub async fn tick() {
    let runtime = runtime();
    let steps = runtime.steps.get() + 1;
    runtime.steps.set(steps % STEPS);
    if steps >= STEPS {
        yield_now().await;
    }
}

/// Waits until the descriptor can be read, or written.
pub async fn ready(fd: RawFd, write: bool) {
    let mut asked = false;
    poll_fn(|context| {
        let runtime = runtime();
        let mut list = runtime.descriptors.borrow_mut();
        if std::mem::replace(&mut asked, true)
            && !list.iter().any(|(other, kind, waker)| (*other, *kind) == (fd, write) && waker.will_wake(context.waker()))
        {
            return Poll::Ready(());
        }
        if !list.iter().any(|(other, kind, waker)| (*other, *kind) == (fd, write) && waker.will_wake(context.waker())) {
            list.push((fd, write, context.waker().clone()));
        }
        Poll::Pending
    })
    .await;
}

/// Waits. For ever is a hundred years, so that somebody still waits for something.
pub async fn sleep(time: Duration) {
    const LONGEST: Duration = Duration::from_secs(100 * 366 * 86400);
    let end = Instant::now() + time.min(LONGEST);
    poll_fn(|context| {
        if Instant::now() >= end {
            return Poll::Ready(());
        }
        runtime().timers.borrow_mut().push((end, context.waker().clone()));
        Poll::Pending
    })
    .await;
}

/// Waits for whichever of two comes first; the other is dropped.
pub async fn first<A, B>(left: impl Future<Output = A>, right: impl Future<Output = B>) -> Result<A, B> {
    let mut left = std::pin::pin!(left);
    let mut right = std::pin::pin!(right);
    poll_fn(|context| {
        if let Poll::Ready(value) = left.as_mut().poll(context) {
            return Poll::Ready(Ok(value));
        }
        right.as_mut().poll(context).map(Err)
    })
    .await
}
