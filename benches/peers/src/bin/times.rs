//! Measures the time of each way to read a cached token and to stamp a request, once. Prints a line for each, for the program
//! `peers`. The arguments are the same.

use peers::experiments::cached;

fn main() {
    let kinds = peers::begin();
    for cost in cached::times(&kinds) {
        println!("{cost}");
    }
}
