#!/usr/bin/env bash
# A message of confluent-kafka that has no bytes is false, whatever key and headers it has.
#
# confluent-kafka 2.16.1, with the broker that librdkafka brings for tests. `len(message)` is the length of the
# value, so that `message = consumer.poll(1); if not message: continue` drops tombstones and messages that carry
# everything in headers, as claim checks do, in silence; `if message is None` keeps them.
#
# Output seen:
#   key b'camera-1', value b'', headers None: false, length 0
#   key b'camera-1', value None, headers [('uri', b's3://photos/1.jpg')]: false, length 0
#   key b'camera-1', value b'x', headers None: true, length 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q confluent-kafka==2.16.1
cat >"$folder/look.py" <<'END'
from time import monotonic

from confluent_kafka import Consumer, Producer, TopicPartition

producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
(broker,) = producer.list_topics(timeout=10).brokers.values()
for value, headers in ((b"", None), (None, {"uri": b"s3://photos/1.jpg"}), (b"x", None)):
    producer.produce("images", value, b"camera-1", headers=headers)
assert producer.flush(10) == 0
consumer = Consumer({"bootstrap.servers": f"{broker.host}:{broker.port}", "group.id": "look"})
consumer.assign([TopicPartition("images", number, 0) for number in range(4)])
seen, deadline = 0, monotonic() + 60
while seen < 3 and monotonic() < deadline:
    message = consumer.poll(0.1)
    if message is not None and not message.error():
        seen += 1
        facts = f"key {message.key()}, value {message.value()}, headers {message.headers()}"
        print(f"{facts}: {str(bool(message)).lower()}, length {len(message)}")
consumer.close()
END
"$folder/venv/bin/python" "$folder/look.py" | tee "$folder/seen"
diff "$folder/seen" - <<'END'
key b'camera-1', value b'', headers None: false, length 0
key b'camera-1', value None, headers [('uri', b's3://photos/1.jpg')]: false, length 0
key b'camera-1', value b'x', headers None: true, length 1
END
