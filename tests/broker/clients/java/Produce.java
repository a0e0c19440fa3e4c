import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Produces numbered messages with headers and timestamps, idempotently as Java's producer does by default.
 *
 * <p>java -cp 'LIBS/*' Produce.java ADDRESS TOPIC COUNT [SETTING=VALUE ...]
 */
public class Produce {
    public static void main(String[] args) throws Exception {
        String topic = args[1];
        int count = Integer.parseInt(args[2]);
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", args[0], "linger.ms", 5));
        for (int i = 3; i < args.length; i++) {
            String[] words = args[i].split("=", 2);
            settings.put(words[0], words[1]);
        }
        AtomicReference<Exception> failed = new AtomicReference<>();
        long begun = System.currentTimeMillis();
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int n = 0; n < count; n++) {
                long timestamp = System.currentTimeMillis() - count + n;
                var record = new ProducerRecord<>(topic, null, timestamp, "key " + n % 100, "message " + n);
                record.headers().add("number", Integer.toString(n).getBytes());
                record.headers().add("timestamp", Long.toString(timestamp).getBytes());
                producer.send(record, (metadata, error) -> failed.compareAndSet(null, error));
            }
        }
        if (failed.get() != null) {
            throw failed.get();
        }
        System.out.printf("produced %d in %d ms%n", count, System.currentTimeMillis() - begun);
    }
}
