//! The worker's life: its device, its restart, and what a fresh one is given.

use leptos::prelude::*;
use ventral::compute::description::BackendChoice;
use ventral::session::protocol::*;

use super::App;
use super::link::backend_word;
use super::requests::Engine;
use super::tab::Tab;
use crate::bridge::{self, Signal};
use crate::dom;

impl App {
    /// Starts the worker and has it choose a device.
    pub(super) fn start_worker(self) {
        let device = backend_word(self.backend_choice.get_untracked());
        bridge::connect(device, move |signal| self.on_signal(signal));
        self.start_backend();
    }

    fn on_signal(self, signal: Signal) {
        match signal {
            Signal::Loading { done, total } => self.engine.set(Engine::Loading { done, total }),
            Signal::Ready => self.engine.set(Engine::Ready),
            Signal::Replaced => self.send_everything(),
            Signal::Compiled(compiled) => {
                self.compiling.set(true);
                if compiled {
                    self.take_compiled();
                }
            }
            Signal::Crashed(cause) => {
                self.engine.set(Engine::Crashed);
                self.status.set("The compute worker stopped".to_owned());
                self.add_problem(
                    "The compute worker stopped. Restart it to go on; your model and image are kept.",
                    &cause,
                    true,
                );
            }
        }
    }

    /// Takes the program that has been compiled since, once nothing is under way.
    fn take_compiled(self) {
        if untrack(|| self.busy()) {
            return dom::after(1000, move || self.take_compiled());
        }
        self.compiling.set(false);
        self.restart();
    }

    /// Starts a fresh worker and gives it the backend, the model and the image again.
    pub fn restart(self) {
        self.problems.update(|all| all.retain(|p| !p.restart));
        bridge::restart();
        self.send_everything();
    }

    fn send_everything(self) {
        self.models.forget_worker();
        self.images.forget_worker();
        self.test.forget_worker();
        self.align.forget_worker();
        self.engine.set(Engine::Loading {
            done: 0.0,
            total: 0.0,
        });
        self.start_backend();
        match self.source.get_untracked() {
            Some(source) => self.load(source),
            None => self.load_wanted(),
        }
        if self.textures.with_value(|t| !t.is_empty()) {
            self.send_textures();
        }
        if let Some(shown) = self.image.get_untracked() {
            self.send_image(shown);
        }
        if self.tab.get_untracked() == Tab::Align {
            self.prepare_align();
        }
    }

    fn start_backend(self) {
        let request = Request::Start {
            backend: self.backend_choice.get_untracked(),
        };
        self.ask(request, Vec::new(), move |event| match event {
            // The model has moved to the new device.
            Event::Model(info) => self.on_model(*info),
            Event::Done => self.refresh(),
            _ => {}
        });
    }

    /// Changes the device, and with it the worker: one owns the GPU, another all CPU cores.
    pub fn choose_backend(self, choice: BackendChoice) {
        self.backend_choice.set(choice);
        bridge::set_device(backend_word(choice));
        self.restart();
    }
}
