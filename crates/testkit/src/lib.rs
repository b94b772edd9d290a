//! The in-process test world: real servers, scripted peers, clients.
