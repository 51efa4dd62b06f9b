//! The whole program as a process: what a user, a sender and an operator see.

mod crash;
mod process;
mod quickstart;
