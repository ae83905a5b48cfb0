#[derive(PartialEq, Eq, unstale::Key)]
struct Price {
    #[key(format = 2)]
    product: u64,
}

fn main() {}
