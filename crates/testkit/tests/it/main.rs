//! The test world itself: what it serves is what its clients read, and broken peers are really broken.

mod captures;
mod echo;
mod fuzz;
mod peers;
mod servers;
