//! Cardinal: API gateway and service mesh in one program.
fn main() {}
