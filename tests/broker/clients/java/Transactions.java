import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Moves messages from one topic to another in transactions, some of which are aborted; then lets a second producer of the
 * same transactional id fence the first.
 *
 * <p>java -cp 'LIBS/*' Transactions.java ADDRESS SOURCE TARGET COUNT
 */
public class Transactions {
    private static String address;

    public static void main(String[] args) throws Exception {
        address = args[0];
        String source = args[1];
        String target = args[2];
        int count = Integer.parseInt(args[3]);
        try (var producer = new KafkaProducer<>(Map.of("bootstrap.servers", address), new StringSerializer(), new StringSerializer())) {
            for (int n = 0; n < count; n++) {
                producer.send(new ProducerRecord<>(source, 0, null, "message " + n));
            }
        }
        int aborted = move(source, target, count);
        List<String> moved = read(target, "read_committed");
        check(moved.size() == count, "moved " + moved.size());
        for (int n = 0; n < count; n++) {
            check(moved.get(n).equals("moved " + n), "where " + n + " should be is " + moved.get(n));
        }
        check(read(target, "read_uncommitted").size() == count + aborted, "aborted messages are seen by those who ask for them");
        fence(target);
        check(read(target, "read_committed").size() == count + 1, "of the fenced producer nothing is committed");
        System.out.println("moved " + count);
    }

    private static KafkaProducer<String, String> producer(String id) {
        Map<String, Object> settings = Map.of("bootstrap.servers", address, "transactional.id", id);
        return new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
    }

    private static KafkaConsumer<String, String> consumer(Map<String, Object> settings) {
        Map<String, Object> all = new HashMap<>(settings);
        all.putAll(Map.of("bootstrap.servers", address, "auto.offset.reset", "earliest", "enable.auto.commit", "false"));
        return new KafkaConsumer<>(all, new StringDeserializer(), new StringDeserializer());
    }

    /** Aborts every third transaction and reads its messages again; gives how many messages were aborted. */
    private static int move(String source, String target, int count) {
        int aborted = 0;
        try (var producer = producer("java-" + target);
                var consumer = consumer(Map.of("group.id", "java-" + target, "isolation.level", "read_committed", "max.poll.records", 50))) {
            producer.initTransactions();
            TopicPartition partition = new TopicPartition(source, 0);
            consumer.subscribe(List.of(source));
            long next = 0;
            long until = System.currentTimeMillis() + 60_000;
            for (int transaction = 0; next < count; transaction++) {
                check(System.currentTimeMillis() < until, "only " + next + " were moved");
                var records = consumer.poll(Duration.ofMillis(200));
                if (records.isEmpty()) {
                    continue;
                }
                producer.beginTransaction();
                for (var record : records) {
                    producer.send(new ProducerRecord<>(target, 0, null, record.value().replace("message", "moved")));
                }
                if (transaction % 3 == 2) {
                    producer.flush();
                    producer.abortTransaction();
                    aborted += records.count();
                    consumer.seek(partition, next);
                } else {
                    long position = consumer.position(partition);
                    producer.sendOffsetsToTransaction(Map.of(partition, new OffsetAndMetadata(position)), consumer.groupMetadata());
                    producer.commitTransaction();
                    next = position;
                }
            }
            check(consumer.committed(Set.of(partition)).get(partition).offset() == count, "the group is not at its end");
        }
        return aborted;
    }

    private static void fence(String target) throws Exception {
        try (var old = producer("java-fence-" + target); var young = producer("java-fence-" + target)) {
            old.initTransactions();
            old.beginTransaction();
            old.send(new ProducerRecord<>(target, 0, null, "fenced")).get();
            young.initTransactions();
            young.beginTransaction();
            young.send(new ProducerRecord<>(target, 0, null, "moved last")).get();
            young.commitTransaction();
            try {
                old.commitTransaction();
                throw new IllegalStateException("a fenced producer has committed");
            } catch (ProducerFencedException | InvalidProducerEpochException expected) {
                System.out.println("fenced");
            }
        }
    }

    /** All values of the topic's first partition, up to its end. */
    private static List<String> read(String topic, String isolation) {
        List<String> values = new ArrayList<>();
        try (var consumer = consumer(Map.of("isolation.level", isolation))) {
            TopicPartition partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            long until = System.currentTimeMillis() + 30_000;
            while (consumer.position(partition) < end) {
                check(System.currentTimeMillis() < until, "the end never came");
                for (var record : consumer.poll(Duration.ofMillis(200))) {
                    values.add(record.value());
                }
            }
        }
        return values;
    }

    private static void check(boolean holds, String otherwise) {
        if (!holds) {
            throw new IllegalStateException(otherwise);
        }
    }
}
