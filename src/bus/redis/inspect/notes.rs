//! What the members of a fleet say of themselves.

use std::collections::BTreeMap;

use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};

use super::Server;
use crate::Error;
use crate::bus::redis::connection::options;
use crate::bus::redis::error;
use crate::bus::redis::note::Note;
use crate::bus::redis::values::bytes;

impl Server {
    /// Returns what each of these members says of itself; a member that has said nothing yet is left out.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub(crate) async fn notes(&self, members: &[u64]) -> Result<BTreeMap<u64, Note>, Error> {
        if members.is_empty() {
            return Ok(BTreeMap::new());
        }
        let primary = self.primary(0).await?;
        let client = primary.connection.client();
        let client = client.with_options(&options(self.target.timeout()));
        let field = |member: &u64| bytes(&[b"c".as_slice(), &member.to_be_bytes()].concat());
        let mut args: Vec<Value> = vec![bytes(self.names(0).intents.as_bytes())];
        args.extend(members.iter().map(field));
        let command = CustomCommand::new_static("HMGET", ClusterHash::FirstKey, false);
        let answer = client.custom(command, args).await;
        let Value::Array(answers) = answer.map_err(|error| error::from_fred(&error))? else {
            return Err(error::unexpected("HMGET"));
        };
        let pairs = members.iter().zip(&answers);
        let notes =
            pairs.filter_map(|(member, note)| Some((*member, Note::unpack(note.as_bytes()?)?)));
        Ok(notes.collect())
    }
}
