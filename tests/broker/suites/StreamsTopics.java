import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.streams.tests.SmokeTestDriver;

/** Makes the topics of the smoke test of Streams, anew if there are any: {@code java StreamsTopics.java ADDRESS}. */
public class StreamsTopics {
    public static void main(String[] arguments) throws Exception {
        List<String> topics = Arrays.asList(SmokeTestDriver.topics());
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", arguments[0]))) {
            Set<String> old = admin.listTopics().names().get().stream().filter(topics::contains).collect(Collectors.toSet());
            admin.deleteTopics(old).all().get();
            for (String topic : topics) {
                create(admin, topic);
            }
        }
    }

    /** Creates a topic, if need be after the old one has gone, which Kafka's answer to the deletion does not wait for. */
    private static void create(Admin admin, String topic) throws Exception {
        for (int attempt = 1;; attempt++) {
            try {
                admin.createTopics(List.of(new NewTopic(topic, 5, (short) 1))).all().get();
                return;
            } catch (java.util.concurrent.ExecutionException e) {
                if (!(e.getCause() instanceof TopicExistsException) || attempt == 100) {
                    throw e;
                }
                Thread.sleep(100);
            }
        }
    }
}
