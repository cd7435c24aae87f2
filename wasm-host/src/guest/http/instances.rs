//! Instances of a component, each with a store of its own, and the requests that they answer.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use tokio::sync::Notify;
use wasmtime::component::InstancePre;
use wasmtime::{AsContextMut, Engine, Store, UpdateDeadline};
use wasmtime_wasi_http::handler::{Prepared, Proxy, ProxyPre, Request, Response};
use wasmtime_wasi_http::{WasiHttpView, p2, p3};

use super::body::{Exchange, Hold};
use super::limits::Turn;
use super::milliseconds;
use super::refusal::Refusal;
use super::sampler::Sampler;
use super::ticker::Ticker;
use crate::guest::dumps::Dumps;
use crate::guest::growth::{Growth, Sum};
use crate::guest::outcome;
use crate::guest::outgoing::Outgoing;
use crate::guest::prepared::ComponentState;
use crate::interfaces::Interfaces;
use crate::protocol::{GuestSpec, HttpService};
use crate::stdio::{Lines, Output, Streams};
use crate::wasi;

/// Makes instances, and keeps those that may answer once more.
pub(super) struct Instances {
    engine: Engine,
    pre: ProxyPre<ComponentState>,
    spec: GuestSpec,
    needs: wasi::Needs,
    outgoing: Outgoing,
    interfaces: Interfaces,
    stdout: Output,
    stderr: Output,
    reports: Output,
    ticker: Ticker,
    sum: Arc<Sum>,
    sampler: Option<Arc<Sampler>>,
    dumps: Option<Dumps>,
    /// Bytes of linear memory that an instance may have; `None`: what the container has.
    max_memory: Option<usize>,
    request_timeout: Duration,
    requests_per_instance: u32,
    idle_time: Duration,
    idle: Mutex<VecDeque<Idle>>,
    became_idle: Notify,
}

struct Instance {
    store: Store<ComponentState>,
    proxy: Proxy,
    answered: u32,
}

struct Idle {
    instance: Instance,
    since: Instant,
}

/// What the guest, or nobody, has to say to a request.
type Head = oneshot::Sender<wasmtime::Result<Response>>;

impl Instances {
    pub(super) fn new(
        instance: InstancePre<ComponentState>,
        spec: &GuestSpec,
        settings: &HttpService,
        streams: &Streams,
        ticker: Ticker,
        sum: Arc<Sum>,
        sampler: Option<Arc<Sampler>>,
    ) -> wasmtime::Result<Arc<Self>> {
        let engine = instance.component().engine().clone();
        let needs = wasi::Needs::of(instance.component());
        let interfaces = Interfaces::of(instance.component(), spec, streams)?;
        let pre = match p3::bindings::ServicePre::new(instance.clone()) {
            Ok(pre) => ProxyPre::P3(pre),
            Err(_) => ProxyPre::P2(p2::bindings::ProxyPre::new(instance)?),
        };
        let instances = Arc::new(Instances {
            engine,
            pre,
            needs,
            outgoing: Outgoing::new(spec),
            interfaces,
            spec: spec.clone(),
            stdout: streams.stdout.clone(),
            stderr: streams.stderr.clone(),
            reports: streams.reports(),
            ticker,
            sum,
            sampler,
            dumps: Dumps::of(spec),
            max_memory: usize::try_from(settings.max_instance_memory).ok().filter(|bytes| *bytes > 0),
            request_timeout: milliseconds(settings.request_timeout_ms),
            requests_per_instance: settings.requests_per_instance.max(1),
            idle_time: milliseconds(settings.instance_idle_ms),
            idle: Mutex::default(),
            became_idle: Notify::new(),
        });
        if instances.requests_per_instance > 1 {
            tokio::spawn(forget_idle(Arc::downgrade(&instances)));
        }
        Ok(instances)
    }

    /// The head of the guest's answer. Its body goes on in a task of its own, which has the turn until it is done.
    pub(super) async fn answer(self: &Arc<Self>, request: Request, turn: Turn) -> Result<http::Response<Hold>, Refusal> {
        let (head, answer) = oneshot::channel();
        let exchange = Arc::new(Exchange::default());
        let work = tokio::spawn(Arc::clone(self).work(request, head, turn, Arc::clone(&exchange)));
        let hold = Hold::new(exchange);
        match tokio::time::timeout(self.request_timeout, answer).await {
            Ok(Ok(Ok(response))) => Ok(response.map(|body| hold.of(body))),
            Ok(Ok(Err(error))) => {
                self.report(&error);
                Err(if error.is::<wasmtime::PoolConcurrencyLimitError>() { Refusal::NoInstance } else { Refusal::Failed })
            }
            // The task has said why.
            Ok(Err(oneshot::Canceled)) => Err(Refusal::Failed),
            Err(_) => {
                work.abort();
                self.say(&format!("no answer within {:?}: the request is given up", self.request_timeout));
                Err(Refusal::TimedOut)
            }
        }
    }

    /// Has an instance answer. Where the client has gone, by itself or with all of its answer, the guest is given as much time
    /// again, and then no more.
    async fn work(self: Arc<Self>, request: Request, head: Head, turn: Turn, exchange: Arc<Exchange>) {
        let _turn = turn;
        let _running = self.ticker.run();
        let overdue = async {
            exchange.client_gone.notified().await;
            tokio::time::sleep(self.request_timeout).await;
        };
        tokio::select! {
            () = self.run(request, head, &exchange) => {}
            () = overdue => self.say(&format!("still at work {:?} after its client had gone: ended", self.request_timeout)),
        }
    }

    async fn run(&self, request: Request, head: Head, exchange: &Exchange) {
        let instance = match self.take() {
            Some(instance) => Ok(instance),
            None => self.make().await,
        };
        let mut instance = match instance {
            Ok(instance) => instance,
            Err(error) => return drop(head.send(Err(error))),
        };
        // The last epoch may have been long ago.
        instance.store.set_epoch_deadline(1);
        match instance.answer(request, head).await {
            Ok(()) => self.put_back(instance),
            Err(error) => {
                exchange.guest_failed.store(true, Ordering::Release);
                self.report(&error);
                if let Some(line) = self.dumps.as_ref().and_then(|dumps| dumps.write(&mut instance.store, &error)) {
                    self.say(&line);
                }
            }
        }
    }

    async fn make(&self) -> wasmtime::Result<Instance> {
        let outputs = [&self.stdout, &self.stderr].map(|output| Lines::new(output.clone()));
        let wasi = wasi::of_instance(&self.spec, self.needs, outputs, self.outgoing.allowed())?;
        let growth = Growth::added_to(Arc::clone(&self.sum), self.max_memory);
        let mut store =
            Store::new(&self.engine, ComponentState::new(wasi, self.outgoing.clone(), self.interfaces.clone(), growth));
        store.limiter(|state| &mut state.growth);
        match self.sampler.clone() {
            None => store.epoch_deadline_async_yield_and_update(1),
            Some(sampler) => store.epoch_deadline_callback(move |store| {
                sampler.sample(store);
                Ok(UpdateDeadline::Yield(1))
            }),
        }
        store.set_epoch_deadline(1);
        let proxy = self.pre.instantiate_async(&mut store).await?;
        Ok(Instance { store, proxy, answered: 0 })
    }

    fn take(&self) -> Option<Instance> {
        // The one that was used last: its memory is warm, and the others' time runs out.
        self.idle().pop_back().map(|idle| idle.instance)
    }

    fn put_back(&self, mut instance: Instance) {
        instance.answered = instance.answered.saturating_add(1);
        if instance.answered < self.requests_per_instance {
            self.idle().push_back(Idle { instance, since: Instant::now() });
            self.became_idle.notify_one();
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, VecDeque<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, error: &wasmtime::Error) {
        self.say(&outcome::failure(error));
    }

    fn say(&self, text: &str) {
        // Nobody can be told if even this cannot be written.
        let _ = self.reports.write(format!("{text}\n").as_bytes());
    }
}

impl Instance {
    async fn answer(&mut self, request: Request, head: Head) -> wasmtime::Result<()> {
        self.store.data_mut().outgoing.belong_to(request.headers());
        match &self.proxy {
            Proxy::P2(proxy) => {
                let (request, out) = {
                    let mut view = self.store.data_mut().http();
                    let request = view.new_incoming_request(p2::bindings::http::types::Scheme::Http, request)?;
                    let send = move |response: Result<_, p2::bindings::http::types::ErrorCode>| {
                        let response =
                            response.map_err(|code| wasmtime::format_err!("the guest answers with an error: {code:?}"));
                        // The client may have gone.
                        let _ = head.send(response);
                    };
                    (request, view.new_response_outparam_from_callback(send)?)
                };
                proxy.wasi_http_incoming_handler().call_handle(&mut self.store, request, out).await
            }
            Proxy::P3(_) => {
                let prepared = Prepared::new(self.store.as_context_mut(), &self.proxy, request, ComponentState::http, head)?;
                let work = async |accessor: &wasmtime::component::Accessor<ComponentState>| {
                    prepared.run(accessor, std::future::pending()).await?;
                    // The body, and whatever else the guest has begun.
                    poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
                    Ok(())
                };
                self.store.run_concurrent(work).await?
            }
        }
    }
}

/// Drops instances whose next request does not come.
async fn forget_idle(instances: Weak<Instances>) {
    loop {
        let Some(all) = instances.upgrade() else { return };
        let next = all.idle().front().map(|idle| idle.since + all.idle_time);
        match next {
            None => all.became_idle.notified().await,
            Some(end) => {
                tokio::time::sleep_until(end.into()).await;
                let now = Instant::now();
                let mut idle = all.idle();
                let gone = idle.iter().take_while(|idle| idle.since + all.idle_time <= now).count();
                let gone: Vec<Idle> = idle.drain(..gone).collect();
                // Taking instances apart is work that those who look for one need not wait for.
                drop(idle);
                drop(gone);
            }
        }
    }
}
