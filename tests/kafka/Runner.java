import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import kafka.server.KafkaConfig;
import kafka.server.KafkaRaftServer;
import org.apache.kafka.common.utils.Exit;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.common.utils.Utils;

/**
 * Runs programs one after the other in this one process, for a process of Java takes a second to begin, and Kafka's own six.
 *
 * <p>A line of the standard input asks for something, its words with tabs between them; the answer is a line with a status:
 * <ul>
 * <li>{@code run IN OUT ERR CLASS ARGUMENT...} runs a main method with these files as its input, output and errors, and the
 *     shutdown hooks that it gave to Kafka's {@link Exit}; the answer is its exit status.
 * <li>{@code start PROPERTIES} starts a server of Kafka and answers 0 when it answers; {@code stop PROPERTIES} stops it in order.
 * </ul>
 * Where the input ends, so does this.
 */
public class Runner {
    /** How long a program may run. */
    private static final long PATIENCE_MS = 90_000;
    /** These keep what they count in static fields, so each run has its own. */
    private static final String TOOLS = "org.apache.kafka.tools.";

    private final Map<String, KafkaRaftServer> servers = new HashMap<>();
    private final List<Runnable> hooks = new ArrayList<>();
    private Integer status;

    public static void main(String[] args) {
        PrintStream answers = System.out;
        // What is logged between the programs is for people.
        System.setOut(System.err);
        int status = 0;
        try {
            new Runner().answer(new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8)), answers);
        } catch (Throwable failed) {
            failed.printStackTrace();
            status = 1;
        }
        // A server or a client that was left behind would keep the process.
        Runtime.getRuntime().halt(status);
    }

    private void answer(BufferedReader requests, PrintStream answers) throws Exception {
        Exit.setExitProcedure(this::end);
        Exit.setHaltProcedure(this::end);
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        for (String line; (line = requests.readLine()) != null; ) {
            String[] words = line.split("\t", -1);
            answers.println(switch (words[0]) {
                case "run" -> run(words);
                case "start" -> start(words[1]);
                case "stop" -> stop(words[1]);
                default -> throw new IllegalArgumentException(line);
            });
            answers.flush();
        }
    }

    /** A program ends itself: the first status counts, for it may catch what is thrown here and end itself once more. */
    private void end(int status, String message) {
        if (this.status == null) {
            this.status = status;
        }
        throw new Ended();
    }

    private int run(String[] words) throws Exception {
        status = null;
        hooks.clear();
        InputStream in = System.in;
        PrintStream out = System.out;
        PrintStream err = System.err;
        try (var input = new FileInputStream(words[1]); var output = new PrintStream(words[2]); var errors = new PrintStream(words[3])) {
            System.setIn(input);
            System.setOut(output);
            System.setErr(errors);
            within(() -> call(words[4], Arrays.copyOfRange(words, 5, words.length)));
            for (Runnable hook : hooks) {
                within(hook);
            }
        } finally {
            System.setIn(in);
            System.setOut(out);
            System.setErr(err);
        }
        return status == null ? 0 : status;
    }

    /** Runs it in a thread of its own; this process ends if it takes too long. */
    private static void within(Runnable part) throws InterruptedException {
        Thread thread = new Thread(part, "program");
        thread.setContextClassLoader(new ToolLoader());
        thread.start();
        thread.join(PATIENCE_MS);
        if (thread.isAlive()) {
            Arrays.stream(thread.getStackTrace()).forEach(System.err::println);
            Runtime.getRuntime().halt(124);
        }
    }

    private void call(String name, String[] arguments) {
        try {
            Class<?> type = Class.forName(name, true, Thread.currentThread().getContextClassLoader());
            type.getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException failed) {
            if (!(failed.getCause() instanceof Ended)) {
                failed.getCause().printStackTrace();
                status = status == null ? 1 : status;
            }
        } catch (ReflectiveOperationException failed) {
            failed.printStackTrace();
            status = 1;
        }
    }

    private int start(String properties) throws Exception {
        var server = new KafkaRaftServer(KafkaConfig.fromProps(Utils.loadProps(properties)), Time.SYSTEM);
        server.startup();
        servers.put(properties, server);
        return 0;
    }

    private int stop(String properties) {
        var server = servers.remove(properties);
        server.shutdown();
        server.awaitShutdown();
        return 0;
    }

    /** Thrown in the place of an end of the process. */
    private static final class Ended extends Error {
        private static final long serialVersionUID = 1;

        Ended() {
            super("the program has ended", null, false, false);
        }
    }

    /** Loads Kafka's tools anew, and everything else as ever. */
    private static final class ToolLoader extends URLClassLoader {
        ToolLoader() {
            super(classPath(), Runner.class.getClassLoader());
        }

        private static URL[] classPath() {
            String[] entries = System.getProperty("java.class.path").split(":");
            return Arrays.stream(entries).filter(entry -> !entry.isEmpty()).map(ToolLoader::url).toArray(URL[]::new);
        }

        private static URL url(String path) {
            try {
                return Path.of(path).toUri().toURL();
            } catch (MalformedURLException error) {
                throw new IllegalArgumentException(error);
            }
        }

        @Override
        protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
            synchronized (getClassLoadingLock(name)) {
                Class<?> known = findLoadedClass(name);
                if (known == null && name.startsWith(TOOLS)) {
                    known = findClass(name);
                }
                return known == null ? super.loadClass(name, resolve) : known;
            }
        }
    }
}
