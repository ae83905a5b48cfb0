#[derive(PartialEq, Eq, unstale::Key)]
struct Traced {
    #[key(skip = "the request that asks")]
    request: u64,
}

fn main() {}
