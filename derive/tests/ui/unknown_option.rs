#[derive(PartialEq, Eq, unstale::Key)]
#[key(rename = "price")]
struct Price(#[key(ignore)] u64);

fn main() {}
