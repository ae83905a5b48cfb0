#[derive(PartialEq, Eq, unstale::Key)]
enum Owner {
    User(u64),
    #[key(skip = "there are none")]
    Team(u64),
}

fn main() {}
