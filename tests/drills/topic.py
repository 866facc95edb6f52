"""The topic of hits, as another system would read it."""

from confluent_kafka import Consumer, TopicPartition

from conf.sections import KafkaSettings


def hits_told(kafka: KafkaSettings) -> set[str]:
    """`trans_num` of every hit in the topic; a hit may stand there more than once."""
    topic = kafka.alerts_topic
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "drills"})
    found = set()
    for partition in consumer.list_topics(topic, timeout=30).topics[topic].partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
        consumer.assign([TopicPartition(topic, partition, low)])
        for message in consumer.consume(high - low, timeout=30) if high > low else ():
            found.add((message.key() or b"").decode())
    consumer.close()
    return found
