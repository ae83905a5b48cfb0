struct Money(u64);

#[derive(unstale::Key)]
struct Price {
    amount: Money,
}

impl PartialEq for Price {
    fn eq(&self, other: &Self) -> bool {
        self.amount.0 == other.amount.0
    }
}

impl Eq for Price {}

fn main() {}
