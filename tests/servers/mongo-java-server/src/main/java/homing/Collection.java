package homing;

import de.bwaldvogel.mongo.MongoDatabase;
import de.bwaldvogel.mongo.backend.CollectionOptions;
import de.bwaldvogel.mongo.backend.CursorRegistry;
import de.bwaldvogel.mongo.backend.Index;
import de.bwaldvogel.mongo.backend.QueryParameters;
import de.bwaldvogel.mongo.backend.QueryResult;
import de.bwaldvogel.mongo.backend.memory.MemoryCollection;
import de.bwaldvogel.mongo.bson.Document;
import java.util.List;
import java.util.stream.Collectors;

/**
 * A collection that answers with copies, made while its lock is held.
 *
 * <p>The library changes documents in place and hands out the documents themselves, which are written to the socket
 * after the lock is given back: a reader could be sent a document that is half changed, and findAndModify one that a
 * later writer has changed again. MongoDB does neither.
 */
final class Collection extends MemoryCollection {
    /** Whether what is being looked up goes to a client; guarded by this collection's lock. */
    private boolean copying;
    /** Whether what is being looked up is to be changed; guarded likewise. */
    private boolean changing;

    Collection(MongoDatabase database, String name, CollectionOptions options, CursorRegistry cursors) {
        super(database, name, options, cursors);
    }

    @Override
    public synchronized QueryResult handleQuery(QueryParameters parameters) {
        copying = !changing;
        try {
            return super.handleQuery(parameters);
        } finally {
            copying = false;
        }
    }

    @Override
    public synchronized Document findAndModify(Document query) {
        changing = true;
        try {
            return super.findAndModify(query).cloneDeeply();
        } finally {
            changing = false;
        }
    }

    @Override
    public synchronized int count(Document query, int skip, int limit) {
        return super.count(query, skip, limit);
    }

    /**
     * The index that serves most of the query; the library would take the first that serves all of it. Who asks for
     * documents by name, and for something more, is served by their names.
     */
    @Override
    protected QueryResult queryDocuments(
            Document query, Document orderBy, int skip, int limit, int batchSize, Document projection) {
        if (query.containsKey("_id")) {
            Document named = new Document("_id", query.get("_id"));
            for (Index<Integer> index : getIndexes()) {
                if (index.canHandle(named)) {
                    return matchDocuments(
                            query, index.getPositions(named), orderBy, skip, limit, batchSize, projection);
                }
            }
        }
        Ordered best = null;
        for (Index<Integer> index : getIndexes()) {
            if (index.canHandle(query)) {
                best = null;
                break;
            }
            if (index instanceof Indexes.Serving serving) {
                int serves = serving.ordered().serves(query);
                best = serves > (best == null ? 0 : best.serves(query)) ? serving.ordered() : best;
            }
        }
        return best == null
                ? super.queryDocuments(query, orderBy, skip, limit, batchSize, projection)
                : matchDocuments(query, best.positions(query), orderBy, skip, limit, batchSize, projection);
    }

    @Override
    protected QueryResult createQueryResult(List<Document> documents, int batchSize) {
        return super.createQueryResult(copying ? copies(documents) : documents, batchSize);
    }

    private static List<Document> copies(List<Document> documents) {
        return documents.stream().map(Document::cloneDeeply).collect(Collectors.toList());
    }
}
