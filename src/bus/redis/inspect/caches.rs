//! Which caches the members of a fleet have.

use std::collections::BTreeMap;

use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};

use super::Server;
use crate::Error;
use crate::bus::CacheFormat;
use crate::bus::redis::caches::unpack;
use crate::bus::redis::connection::options;
use crate::bus::redis::error;
use crate::bus::redis::values::bytes;

impl Server {
    /// Returns the caches of each of these members; a member that has told none yet is left out.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub(crate) async fn caches(
        &self,
        members: &[u64],
    ) -> Result<BTreeMap<u64, Vec<CacheFormat>>, Error> {
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
        let Value::Array(told) = answer.map_err(|error| error::from_fred(&error))? else {
            return Err(error::unexpected("HMGET"));
        };
        let caches = |told: &Value| told.as_bytes().map(unpack);
        let pairs = members.iter().zip(&told);
        Ok(pairs
            .filter_map(|(member, told)| Some((*member, caches(told)?)))
            .collect())
    }
}
