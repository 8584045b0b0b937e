//! The allocations of each way to read a cached token and to stamp a request: crate, way and count, a line each, for the
//! table of the other program here. Its arguments are the same.

use peers::experiments::cached;

fn main() {
    let kinds = peers::begin();
    for cost in cached::allocations(&kinds, |run| allocation_counter::measure(run).count_total) {
        println!("{}\t{}\t{}", cost.crate_name, cost.label, cost.value);
    }
}
