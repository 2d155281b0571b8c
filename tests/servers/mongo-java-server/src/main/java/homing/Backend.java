package homing;

import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.backend.memory.MemoryDatabase;
import de.bwaldvogel.mongo.bson.Document;
import io.netty.channel.Channel;

/** The library's backend, with the command `hello`, and with databases whose answers are copies. */
final class Backend extends MemoryBackend {
    @Override
    public MemoryDatabase openOrCreateDatabase(String name) {
        return new Database(name, getCursorRegistry());
    }

    @Override
    public Document handleCommand(Channel channel, String database, String command, Document query) {
        if (!command.equalsIgnoreCase("hello")) {
            return super.handleCommand(channel, database, command, query);
        }
        // the library knows the old name alone
        Document answer = super.handleCommand(channel, database, "ismaster", query);
        answer.remove("ismaster");
        answer.put("isWritablePrimary", true);
        return answer;
    }
}
