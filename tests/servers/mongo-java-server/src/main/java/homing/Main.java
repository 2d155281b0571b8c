package homing;

import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import java.util.List;
import java.util.concurrent.CountDownLatch;

/**
 * A server that speaks MongoDB's wire protocol and keeps its data in memory, for the tests.
 *
 * <p>Argument: the port on 127.0.0.1, 0 for any. Prints "ready PORT" when it answers; ends on SIGTERM.
 */
public final class Main {
    private Main() {}

    /** What the server says it is: today's drivers refuse the wire versions that the library knows (8 at most). */
    private enum Version implements MongoVersion {
        MONGO_4_4;

        @Override
        public List<Integer> getVersionArray() {
            return List.of(4, 4, 0);
        }

        @Override
        public int getWireVersion() {
            return 9;
        }
    }

    public static void main(String[] arguments) throws InterruptedException {
        if (arguments.length != 1) {
            System.err.println("usage: mongo-java-server PORT");
            System.exit(2);
        }
        MongoServer server = new MongoServer(new Backend().version(Version.MONGO_4_4));
        CountDownLatch ended = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            server.shutdownNow();
            ended.countDown();
        }));
        server.bind("127.0.0.1", Integer.parseInt(arguments[0]));
        System.out.println("ready " + server.getLocalAddress().getPort());
        System.out.flush();
        ended.await();
    }
}
