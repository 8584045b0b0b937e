//! Counts the allocations of each way to read a cached token and to stamp a request. Prints a line for each, for the program
//! `peers`. The arguments are the same.

use peers::experiments::cached;

fn main() {
    let kinds = peers::begin();
    for cost in cached::allocations(&kinds, |run| allocation_counter::measure(run).count_total) {
        println!("{cost}");
    }
}
