package homing;

import de.bwaldvogel.mongo.MongoCollection;
import de.bwaldvogel.mongo.backend.Index;
import de.bwaldvogel.mongo.backend.IndexKey;
import de.bwaldvogel.mongo.backend.memory.index.MemoryUniqueIndex;
import de.bwaldvogel.mongo.bson.Document;
import java.util.List;

/** Indexes that serve ranges: the library's unique one serves equality of all its fields, and it has no others. */
final class Indexes {
    private Indexes() {}

    /** Whether two indexes are one, as createIndexes asks; the library compares no more than their sparseness. */
    private static boolean same(Index<?> one, Index<?> other) {
        return one.toIndexDescription().equals(other.toIndexDescription());
    }

    /** An index that can say where documents may be. */
    interface Serving {
        Ordered ordered();
    }

    /** The library's guard of uniqueness, and an order beside it. */
    static final class Unique extends MemoryUniqueIndex implements Serving {
        private final Ordered ordered;

        Unique(String name, List<IndexKey> keys, boolean sparse) {
            super(name, keys, sparse);
            ordered = new Ordered(keys);
        }

        @Override
        public Ordered ordered() {
            return ordered;
        }

        @Override
        public boolean hasSameOptions(Index<?> other) {
            return same(this, other);
        }

        @Override
        public synchronized void add(Document document, Integer position, MongoCollection<Integer> collection) {
            super.add(document, position, collection);
            ordered.put(document, position);
        }

        @Override
        public synchronized Integer remove(Document document) {
            ordered.remove(document);
            return super.remove(document);
        }

        @Override
        public void updateInPlace(
                Document before, Document after, Integer position, MongoCollection<Integer> collection) {
            super.updateInPlace(before, after, position, collection);
            ordered.put(after, position);
        }

        @Override
        public void drop() {
            super.drop();
            ordered.clear();
        }
    }

    /** An order that guards nothing. A sparse one keeps all documents too: what it finds is asked again anyway. */
    static final class Plain extends Index<Integer> implements Serving {
        private final Ordered ordered;

        Plain(String name, List<IndexKey> keys, boolean sparse) {
            super(name, keys, sparse);
            ordered = new Ordered(keys);
        }

        @Override
        public Ordered ordered() {
            return ordered;
        }

        @Override
        public boolean hasSameOptions(Index<?> other) {
            return same(this, other);
        }

        @Override
        public Integer getPosition(Document document) {
            return null;
        }

        @Override
        public void checkAdd(Document document, MongoCollection<Integer> collection) {}

        @Override
        public void add(Document document, Integer position, MongoCollection<Integer> collection) {
            ordered.put(document, position);
        }

        @Override
        public Integer remove(Document document) {
            return ordered.remove(document);
        }

        @Override
        public boolean canHandle(Document query) {
            return false; // Collection chooses among all that serve
        }

        @Override
        public Iterable<Integer> getPositions(Document query) {
            return ordered.positions(query);
        }

        @Override
        public long getCount() {
            return ordered.size();
        }

        @Override
        public long getDataSize() {
            return 0;
        }

        @Override
        public void checkUpdate(Document before, Document after, MongoCollection<Integer> collection) {}

        @Override
        public void updateInPlace(
                Document before, Document after, Integer position, MongoCollection<Integer> collection) {
            ordered.put(after, position);
        }

        @Override
        public void drop() {
            ordered.clear();
        }
    }
}
