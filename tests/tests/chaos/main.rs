//! Chaos: the services as processes of their own, killed at random with the broker and PostgreSQL while people sign up and
//! upload pictures. What was answered is there at the end, and happened once. `./dev test` runs the small storm,
//! `./dev test chaos` the long one too; `ORRERY_CHAOS_SEED` repeats the choices of a run (not its timing).

mod crowd;
mod replicas;
mod scene;
mod storms;
mod verdict;
