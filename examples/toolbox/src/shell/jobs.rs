//! Background jobs: tasks with numbers that look like those of processes.

use std::cell::Cell;
use std::rc::Rc;

use super::syntax::AndOr;
use super::{Run, Shell};
use crate::runtime::executor::{Task, spawn};
use crate::runtime::file::OpenFile;

/// Numbers of jobs begin here, where no process of a small container has its own.
const FIRST: u32 = 100_001;
/// Finished jobs that are remembered for `wait`.
const REMEMBERED: usize = 1024;

/// A job.
#[derive(Clone)]
pub struct Job {
    /// `%1`.
    pub number: u32,
    /// `$!`.
    pub pid: u32,
    /// What runs; the status is its result.
    pub task: Rc<Task<u8>>,
    /// As it was written.
    pub text: String,
}

/// The jobs of a shell.
#[derive(Default)]
pub struct Jobs {
    /// In the order of their beginnings.
    pub list: Vec<Job>,
}

impl Jobs {
    /// The job that `%1`, `%%`, `%+`, `%-` or a number of a process means.
    pub fn find(&self, name: &str) -> Option<Job> {
        let found = match name.strip_prefix('%') {
            Some("" | "%" | "+") => self.list.last(),
            Some("-") => self.list.iter().rev().nth(1).or(self.list.last()),
            Some(number) => match number.parse::<u32>() {
                Ok(number) => self.list.iter().find(|job| job.number == number),
                Err(_) => self.list.iter().find(|job| job.text.starts_with(number)),
            },
            None => {
                let pid = name.parse::<u32>().ok()?;
                self.list.iter().find(|job| job.pid == pid)
            }
        };
        found.cloned()
    }

    /// Forgets a job.
    pub fn forget(&mut self, pid: u32) {
        self.list.retain(|job| job.pid != pid);
    }
}

impl Shell {
    /// Starts a job, `&`.
    pub async fn start_job(&mut self, and_or: &AndOr) -> Run {
        thread_local! {
            static NEXT: Cell<u32> = const { Cell::new(FIRST) };
        }
        let pid = NEXT.with(|next| next.replace(next.get().wrapping_add(1)));
        let mut shell = self.subshell();
        // Nobody types for a job.
        shell.fds.insert(0, Rc::new(OpenFile::Null));
        shell.terminal = None;
        let copy = AndOr {
            first: super::syntax::Pipeline { negated: and_or.first.negated, stages: and_or.first.stages.clone() },
            rest: and_or
                .rest
                .iter()
                .map(|(and, pipeline)| {
                    (*and, super::syntax::Pipeline { negated: pipeline.negated, stages: pipeline.stages.clone() })
                })
                .collect(),
            background: false,
            text: String::new(),
        };
        let task = spawn(shell.run_to_end(move |shell| Box::pin(async move { shell.run_and_or(&copy).await })));
        task.detach();
        let number = {
            let mut jobs = self.jobs.borrow_mut();
            if jobs.list.len() >= REMEMBERED {
                let ended = jobs.list.iter().position(|job| job.task.ended());
                if let Some(index) = ended {
                    jobs.list.remove(index);
                }
            }
            let number = jobs.list.iter().map(|job| job.number).max().unwrap_or(0) + 1;
            jobs.list.push(Job { number, pid, task: Rc::new(task), text: and_or.text.clone() });
            number
        };
        self.last_background = Some(pid);
        if self.options.interactive {
            self.error_text(&format!("[{number}] {pid}\n")).await;
        }
        Ok(0)
    }
}

impl Shell {
    /// `wait`: for all jobs, or for some.
    pub async fn wait(&mut self, args: &[String]) -> Run {
        if args.is_empty() {
            let list = self.jobs.borrow().list.clone();
            for job in list {
                job.task.join().await;
            }
            self.jobs.borrow_mut().list.clear();
            return Ok(0);
        }
        let mut status = 0;
        for name in args {
            let job = self.jobs.borrow().find(name);
            status = match job {
                Some(job) => {
                    let status = job.task.join().await.unwrap_or(143);
                    self.jobs.borrow_mut().forget(job.pid);
                    status
                }
                None => 127,
            };
        }
        Ok(status)
    }

    /// `jobs`.
    pub async fn list_jobs(&mut self, args: &[String]) -> Run {
        let only_pids = args.iter().any(|argument| argument == "-p");
        let with_pids = args.iter().any(|argument| argument == "-l");
        let mut text = String::new();
        let list = self.jobs.borrow().list.clone();
        let last = list.last().map(|job| job.pid);
        for job in &list {
            if only_pids {
                text.push_str(&format!("{}\n", job.pid));
                continue;
            }
            let mark = if Some(job.pid) == last { '+' } else { '-' };
            let pid = if with_pids { format!("{} ", job.pid) } else { String::new() };
            text.push_str(&format!("[{}] {mark} {pid}{:<22} {}\n", job.number, job_state(job).await, job.text));
        }
        self.jobs.borrow_mut().list.retain(|job| !job.task.ended());
        self.print(&text).await
    }

    /// Says which jobs have ended since the last prompt.
    pub async fn tell_of_ended_jobs(&mut self) {
        let ended: Vec<Job> = self.jobs.borrow().list.iter().filter(|job| job.task.ended()).cloned().collect();
        for job in ended {
            let state = job_state(&job).await;
            self.error_text(&format!("[{}]+ {state:<22} {}\n", job.number, job.text)).await;
            self.jobs.borrow_mut().forget(job.pid);
        }
    }

    /// `fg` waits for a job; `bg` has nothing to do, as jobs are never stopped.
    pub async fn foreground(&mut self, name: &str, args: &[String]) -> Run {
        let wanted = args.first().map_or("%%", String::as_str);
        let job = self.jobs.borrow().find(wanted);
        match job {
            None => {
                self.complain(&format!("{name}: {wanted}: no such job")).await;
                Ok(2)
            }
            Some(_) if name == "bg" => Ok(0),
            Some(job) => {
                self.print(&format!("{}\n", job.text)).await?;
                let status = job.task.join().await.unwrap_or(143);
                self.jobs.borrow_mut().forget(job.pid);
                Ok(status)
            }
        }
    }

    /// `kill`: jobs of this shell can be ended; to anything else there is no way.
    pub async fn kill(&mut self, args: &[String]) -> Run {
        if args.first().is_some_and(|first| first == "-l") {
            return Ok(self.run_program("kill", args).await);
        }
        let (signal, names) = match args {
            [flag, name, rest @ ..] if flag == "-s" || flag == "-n" => (name.clone(), rest),
            [first, rest @ ..] if first.starts_with('-') && first.len() > 1 => (first[1..].to_string(), rest),
            _ => ("TERM".to_string(), args),
        };
        let mut status = 0;
        for name in names {
            let job = self.jobs.borrow().find(name);
            match job {
                Some(job) => {
                    if signal != "0" {
                        job.task.cancel();
                    }
                }
                None => {
                    let given = [format!("-{signal}"), name.clone()];
                    status = self.run_program("kill", &given).await;
                }
            }
        }
        if names.is_empty() {
            return Ok(self.run_program("kill", args).await);
        }
        Ok(status)
    }
}

async fn job_state(job: &Job) -> String {
    if !job.task.ended() {
        return "Running".into();
    }
    match job.task.join().await {
        None => "Terminated".into(),
        Some(0) => "Done".into(),
        Some(status) => format!("Done({status})"),
    }
}
