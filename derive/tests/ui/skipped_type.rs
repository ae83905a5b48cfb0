#[derive(PartialEq, Eq, unstale::Key)]
#[key(skip = "it is small")]
struct Price(u64);

fn main() {}
