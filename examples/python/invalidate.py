#!/usr/bin/env python3
"""Tells the instances of a service that uses the Rust crate `unstale` what to drop.

Run it after your change is committed; PROTOCOL.md says why, and what travels.

    invalidate.py --redis redis://127.0.0.1 --namespace shop --cache accounts 42 43
    invalidate.py --redis redis://127.0.0.1 --namespace shop --cache accounts --tag tenant-7
    invalidate.py --redis redis://127.0.0.1 --namespace shop --cache accounts --all

Publishing twice is harmless: when it fails, run it again. Where the instances have UNSTALE_SIGNING_KEY, set
that variable here too.
"""

import argparse
import json
import os
import struct
import sys
import time
from pathlib import Path

import blake3
import msgpack
import redis
import xxhash

# Operations, by what they name.
KEYS, TAGS, CACHE = 0, 1, 2

# Bounds that all instances keep.
MAX_KEY_BYTES = 65_536
KEYS_PER_EVENT = 1_024

# With a key, every event ends with so many bytes of MAC.
MAC_BYTES = 16
MAC_CONTEXT = "unstale 2026 v1 event authentication"

# The publish script, unchanged. Where you copy this file to, copy these two as well.
SCRIPTS = Path(__file__).resolve().parents[2] / "src" / "bus" / "redis" / "lua"
SCRIPT_FILES = ("lane.lua", "publish.lua")
DELIVER_FILES = ("lane.lua", "deliver.lua")


def hash64(data):
    return xxhash.xxh3_64_intdigest(data)


def cache_id(name):
    return hash64(name.encode()) & 0xFFFF_FFFF


def key_hash(parts):
    """The hash of a key of one part or more, each in bytes."""
    if sum(map(len, parts)) > MAX_KEY_BYTES:
        raise ValueError("a key is longer than any instance accepts")
    if len(parts) == 1:
        return hash64(parts[0])
    return hash64(b"".join(struct.pack(">I", len(part)) + part for part in parts))


def key_format(parts):
    """The format of keys of so many parts, unless their type says otherwise."""
    number = 0
    for _ in range(parts):
        number = (number * 31 + 1) & 0xFFFF_FFFF
    return number


def operation(cache, key_format, kind, hashes=()):
    return [cache, key_format, kind, b"".join(struct.pack(">Q", h) for h in hashes)]


def event(operations, origin=0, sent=0):
    """Origin 0 is no instance, so that all instances apply it."""
    return b"\x01" + msgpack.packb([origin, sent, operations], use_bin_type=True)


def signed(payload, key, namespace, lane):
    """The event with its MAC, by the fleet's UNSTALE_SIGNING_KEY; without one, the event as it is."""
    if not key:
        return payload
    derived = blake3.blake3(key.encode(), derive_key_context=MAC_CONTEXT).digest()
    space = namespace.encode()
    covered = struct.pack(">I", len(space)) + space + struct.pack(">I", lane) + payload
    return payload + blake3.blake3(covered, key=derived).digest()[:MAC_BYTES]


def names(namespace, lane, database):
    """The lane's channel, state, journal, and what waits there."""
    lane = "us:{%s:%d}" % (namespace, lane)
    return f"{lane}e{database}", f"{lane}s", f"{lane}j", f"{lane}d"


def lane_events(lanes, cache, key_format, keys=(), tags=()):
    """The lanes and events that drop the keys, or else the tags, or else the whole cache."""
    for lane in range(lanes):
        # A key concerns its own lane, a tag and a cache concern all.
        if keys:
            kind, hashes = KEYS, [key for key in keys if key % lanes == lane]
        elif tags:
            kind, hashes = TAGS, tags
        else:
            yield lane, event([operation(cache, key_format, CACHE)])
            continue
        for first in range(0, len(hashes), KEYS_PER_EVENT):
            some = hashes[first : first + KEYS_PER_EVENT]
            yield lane, event([operation(cache, key_format, kind, some)])


class Publisher:
    """Publishes to one namespace."""

    def __init__(self, client, namespace, journal, key=None):
        self.client, self.namespace, self.journal = client, namespace, journal
        self.key = key
        self.database = client.connection_pool.connection_kwargs.get("db") or 0
        # Sends the hash only, and the text where the server does not have it yet.
        def script(files):
            return client.register_script("".join((SCRIPTS / name).read_text() for name in files))

        self.script, self.deliver = script(SCRIPT_FILES), script(DELIVER_FILES)

    def lanes(self):
        """How many lanes the instances use; None if none has ever used this namespace."""
        _, state, *_ = names(self.namespace, 0, self.database)
        number = self.client.hget(state, "l")
        return None if number is None else int(number)

    def publish(self, lane, payload):
        """Returns the event's epoch and sequence: Redis has it, and every instance will."""
        _, state, journal, waiting = names(self.namespace, lane, self.database)
        channel_end = f"e{self.database}"
        payload = signed(payload, self.key, self.namespace, lane)
        args = [channel_end, self.journal, payload]
        epoch, sequence, wait, *_ = self.script(keys=[state, journal, waiting], args=args)
        if wait:
            # It is the first of several that are delivered together.
            time.sleep(wait / 1e6)
            self.deliver(keys=[state, waiting], args=[channel_end, 0, 0])
        return epoch, sequence


def check_vectors(path):
    """Compares this program with the test vectors of PROTOCOL.md; returns how many there are."""
    text = Path(path).read_text(encoding="utf-8")

    def number(text):
        return int(text, 16)

    def encoded(vector):
        operations = [
            operation(o["cache"], o["format"], o["kind"], map(number, o["hashes"]))
            for o in vector["ops"]
        ]
        return event(operations, number(vector["origin"]), number(vector["sent"])).hex()

    def key(vector):
        parts = [part.encode() for part in vector["parts"]]
        return key_format(len(parts)), key_hash(parts)

    checks = {
        "names": lambda v: (
            names(v["namespace"], v["lane"], v["database"]),
            (v["channel"], v["state"], v["journal"], v["waiting"]),
        ),
        "keys": lambda v: (key(v), (v["format"], number(v["hash"]))),
        "lanes": lambda v: (number(v["hash"]) % v["lanes"], v["lane"]),
        "caches": lambda v: (cache_id(v["cache"]), v["id"]),
        "tags": lambda v: (hash64(v["tag"].encode()), number(v["hash"])),
        "events": lambda v: (encoded(v), v["payload"]),
        "signed": lambda v: (
            signed(bytes.fromhex(v["event"]), v["key"], v["namespace"], v["lane"]).hex(),
            v["payload"],
        ),
    }
    count = 0
    for name, check in checks.items():
        block = text.split(f"\n```jsonl {name}\n", 1)[1].split("\n```", 1)[0]
        for line in block.splitlines():
            computed, written = check(json.loads(line))
            if computed != written:
                sys.exit(f"{name}: {line}\ncomputed: {computed}")
            count += 1
    return count


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("keys", nargs="*", metavar="KEY", help="keys to drop")
    add("--tag", action="append", default=[], help="drop what has this tag; may be repeated")
    add("--all", action="store_true", help="drop the whole cache")
    add("--cache", help="the cache's name")
    add("--namespace", default="default", help="UNSTALE_NAMESPACE of the instances")
    add("--redis", metavar="URL", default=os.environ.get("UNSTALE_REDIS_URL"),
        help="UNSTALE_REDIS_URL of the instances (default: this variable)")
    add("--separator", metavar="TEXT", help="what separates the parts of keys that have several")
    add("--format", type=int, metavar="N",
        help="Key::FORMAT of a key type of your own, and of tuples with --tag and --all "
        "(default: by the number of parts, 1 without keys)")
    add("--lanes", type=int, metavar="N",
        help="UNSTALE_LANES of the instances, for a namespace that none has used yet")
    add("--journal", type=int, metavar="N", default=4096, help="UNSTALE_JOURNAL of the instances")
    add("--vectors", metavar="FILE", help="check the test vectors in PROTOCOL.md, nothing else")
    args = parser.parse_args()
    if not args.vectors:
        if not args.redis or not args.cache:
            parser.error("--redis and --cache are needed")
        if bool(args.keys) + bool(args.tag) + args.all != 1:
            parser.error("name either keys, or tags, or --all")
    return args


def invalidate(args):
    # The bytes of the command line, in any encoding.
    keys = [os.fsencode(key) for key in args.keys]
    separator = args.separator and os.fsencode(args.separator)
    keys = [key.split(separator) if separator else [key] for key in keys]
    tags = [hash64(os.fsencode(tag)) for tag in args.tag]
    formats = {key_format(len(parts)) for parts in keys} or {key_format(1)}
    if args.format is None and len(formats) > 1:
        raise ValueError("the keys have different numbers of parts")
    key_type = formats.pop() if args.format is None else args.format

    # As the instances read it: white space around it is not part of it.
    key = os.environ.get("UNSTALE_SIGNING_KEY", "").strip()
    client = redis.from_url(args.redis, socket_timeout=5, socket_connect_timeout=5)
    publisher = Publisher(client, args.namespace, args.journal, key)
    found = publisher.lanes()
    lanes = found or args.lanes
    if not lanes:
        raise ValueError(
            f"no instance has used the namespace {args.namespace!r} in this database: "
            "is it the right one? If it is, name --lanes"
        )
    if args.lanes not in (None, lanes):
        raise ValueError(f"the instances use {lanes} lanes")
    hashes = [key_hash(parts) for parts in keys]
    events = list(lane_events(lanes, cache_id(args.cache), key_type, hashes, tags))
    for lane, payload in events:
        publisher.publish(lane, payload)
    return len(events)


def main():
    args = arguments()
    if args.vectors:
        print(f"{check_vectors(args.vectors)} vectors hold")
        return
    try:
        print(f"published {invalidate(args)} event(s)")
    except (redis.RedisError, ValueError) as error:
        sys.exit(f"not published, or not on every lane: {error}")


if __name__ == "__main__":
    main()
