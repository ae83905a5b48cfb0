#[derive(PartialEq, Eq, unstale::Key)]
struct Price {
    product: u64,
    #[key(skip = " ")]
    country: String,
}

fn main() {}
