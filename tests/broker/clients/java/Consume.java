import java.time.Duration;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Consumes what Produce has produced, as the only member of a group, and checks it: nothing lost, nothing twice, in order
 * in each partition, with its key, header and timestamp. Then looks where the group is, and seeks by time and by offset.
 *
 * <p>java -cp 'LIBS/*' Consume.java ADDRESS TOPIC COUNT [SETTING=VALUE ...]
 */
public class Consume {
    public static void main(String[] args) {
        String topic = args[1];
        int count = Integer.parseInt(args[2]);
        Map<String, Object> settings = new HashMap<>(Map.of(
            "bootstrap.servers", args[0], "group.id", "java-" + topic, "auto.offset.reset", "earliest",
            "enable.auto.commit", "false"));
        for (int i = 3; i < args.length; i++) {
            String[] words = args[i].split("=", 2);
            settings.put(words[0], words[1]);
        }
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            BitSet seen = new BitSet();
            Map<Integer, Long> next = new HashMap<>();
            long until = System.currentTimeMillis() + 60_000;
            while (seen.cardinality() < count) {
                check(System.currentTimeMillis() < until, "only " + seen.cardinality() + " came");
                for (var record : consumer.poll(Duration.ofMillis(200))) {
                    int n = number(record);
                    check(!seen.get(n), "twice: " + record);
                    seen.set(n);
                    check(record.offset() == next.getOrDefault(record.partition(), 0L), "a hole before " + record);
                    next.put(record.partition(), record.offset() + 1);
                }
            }
            consumer.commitSync();
            var committed = consumer.committed(consumer.assignment());
            long sum = committed.values().stream().filter(at -> at != null).mapToLong(at -> at.offset()).sum();
            check(sum == count, "committed are " + committed);
            TopicPartition first = consumer.assignment().iterator().next();
            seek(consumer, first, consumer.endOffsets(List.of(first)).get(first));
        }
        System.out.println("consumed " + count);
    }

    /** The timestamp of the record in the middle leads to it, or to one before it that is as old. */
    private static void seek(KafkaConsumer<String, String> consumer, TopicPartition partition, long end) {
        if (end == 0) {
            return;
        }
        consumer.seek(partition, end / 2);
        ConsumerRecord<String, String> record = null;
        long until = System.currentTimeMillis() + 30_000;
        while (record == null) {
            check(System.currentTimeMillis() < until, "no record at " + end / 2);
            var records = consumer.poll(Duration.ofMillis(200)).records(partition);
            record = records.isEmpty() ? null : records.get(0);
        }
        check(record.offset() == end / 2, "sought " + end / 2 + ", found " + record);
        var found = consumer.offsetsForTimes(Map.of(partition, record.timestamp())).get(partition);
        check(found.offset() <= record.offset() && found.timestamp() == record.timestamp(), "by time: " + found);
    }

    private static int number(ConsumerRecord<String, String> record) {
        int n = Integer.parseInt(record.value().split(" ")[1]);
        check(record.key().equals("key " + n % 100), "a key of another one: " + record);
        check(header(record, "number").equals(Integer.toString(n)), "a header of another one: " + record);
        check(header(record, "timestamp").equals(Long.toString(record.timestamp())), "a timestamp of another one: " + record);
        return n;
    }

    private static String header(ConsumerRecord<String, String> record, String name) {
        return new String(record.headers().lastHeader(name).value());
    }

    private static void check(boolean holds, String otherwise) {
        if (!holds) {
            throw new IllegalStateException(otherwise);
        }
    }
}
