package homing;

import de.bwaldvogel.mongo.backend.IndexKey;
import de.bwaldvogel.mongo.backend.Missing;
import de.bwaldvogel.mongo.backend.Utils;
import de.bwaldvogel.mongo.bson.Document;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * Where the documents of a collection are, in the order of some of their fields.
 *
 * <p>It answers with positions of all documents that can match a query, and of some that do not: the collection asks each
 * one again. Values other than null, whole numbers, doubles, strings and booleans are kept apart and always answered with.
 */
final class Ordered {
    private static final Object LEAST = new Object();
    private static final Object MOST = new Object();

    private final List<String> fields = new ArrayList<>();
    private final TreeMap<List<Object>, Map<Object, Integer>> placed = new TreeMap<>(Ordered::compare);
    private final Map<Object, Integer> apart = new HashMap<>();
    private final Map<Object, List<Object>> keys = new HashMap<>();

    Ordered(List<IndexKey> fields) {
        fields.forEach(key -> this.fields.add(key.getKey()));
    }

    int size() {
        return keys.size();
    }

    /** Keep the document's place; what was kept of it before goes. */
    void put(Document document, Integer position) {
        remove(document);
        List<Object> key = new ArrayList<>();
        boolean plain = true;
        for (String field : fields) {
            Object value = Utils.getSubdocumentValueCollectionAware(document, field);
            key.add(value instanceof Missing ? null : value);
            plain &= value == null || value instanceof Missing || isPlain(value);
        }
        Object id = document.get("_id");
        keys.put(id, plain ? key : Collections.emptyList());
        (plain ? placed.computeIfAbsent(key, none -> new HashMap<>()) : apart).put(id, position);
    }

    /** Forget the document; its position, or null where it was not kept. */
    Integer remove(Document document) {
        Object id = document.get("_id");
        List<Object> key = keys.remove(id);
        if (key == null) {
            return null;
        }
        if (key.isEmpty()) {
            return apart.remove(id);
        }
        Map<Object, Integer> same = placed.get(key);
        Integer position = same.remove(id);
        if (same.isEmpty()) {
            placed.remove(key);
        }
        return position;
    }

    void clear() {
        placed.clear();
        apart.clear();
        keys.clear();
    }

    /** How much of the query this order serves: two for each leading field with one value, one for a range after them. */
    int serves(Document query) {
        int equal = equal(query).size();
        return equal == fields.size() ? 2 * equal : 2 * equal + (range(query, fields.get(equal)) == null ? 0 : 1);
    }

    /** Positions of all documents that can match the query. */
    List<Integer> positions(Document query) {
        List<Object> low = equal(query);
        List<Object> high = new ArrayList<>(low);
        Object[] range = low.size() == fields.size() ? null : range(query, fields.get(low.size()));
        if (range != null) {
            low.add(range[0]);
            high.add(range[1]);
        }
        while (low.size() < fields.size()) {
            low.add(LEAST);
            high.add(MOST);
        }
        List<Integer> found = new ArrayList<>(apart.values());
        if (compare(low, high) <= 0) {
            placed.subMap(low, true, high, true).values().forEach(same -> found.addAll(same.values()));
        }
        return found;
    }

    private List<Object> equal(Document query) {
        List<Object> values = new ArrayList<>();
        for (String field : fields) {
            Object value = query.get(field);
            if (value == null || !isPlain(value)) {
                break;
            }
            values.add(value);
        }
        return values;
    }

    /** The least and the greatest value that the query lets the field have, or null where it sets no bound. */
    private static Object[] range(Document query, String field) {
        if (!(query.get(field) instanceof Document)) {
            return null;
        }
        Object low = LEAST;
        Object high = MOST;
        for (Map.Entry<String, Object> condition : ((Document) query.get(field)).entrySet()) {
            Object value = condition.getValue();
            switch (condition.getKey()) {
                case "$gt", "$gte" -> low = value != null && isPlain(value) ? later(low, value) : low;
                case "$lt", "$lte" -> high = value != null && isPlain(value) ? earlier(high, value) : high;
                case "$in" -> {
                    if (value instanceof java.util.Collection<?> several
                            && !several.isEmpty()
                            && several.stream().allMatch(one -> one != null && isPlain(one))) {
                        low = later(low, Collections.min(several, Ordered::compareValues));
                        high = earlier(high, Collections.max(several, Ordered::compareValues));
                    }
                }
                default -> {} // asked of each document
            }
        }
        return low == LEAST && high == MOST ? null : new Object[] {low, high};
    }

    private static Object later(Object one, Object other) {
        return compareValues(one, other) >= 0 ? one : other;
    }

    private static Object earlier(Object one, Object other) {
        return compareValues(one, other) <= 0 ? one : other;
    }

    private static boolean isPlain(Object value) {
        return value instanceof Integer
                || value instanceof Long
                || value instanceof Double && Double.isFinite((Double) value)
                || value instanceof String
                || value instanceof Boolean;
    }

    private static int compare(List<Object> one, List<Object> other) {
        for (int i = 0; i < one.size(); i++) {
            int told = compareValues(one.get(i), other.get(i));
            if (told != 0) {
                return told;
            }
        }
        return 0;
    }

    private static int compareValues(Object one, Object other) {
        int rank = Integer.compare(rank(one), rank(other));
        if (rank != 0 || one == null || one == LEAST || one == MOST) {
            return rank;
        }
        if (one instanceof String) {
            return ((String) one).compareTo((String) other);
        }
        if (one instanceof Boolean) {
            return ((Boolean) one).compareTo((Boolean) other);
        }
        if (one instanceof Double || other instanceof Double) {
            return exact(one).compareTo(exact(other));
        }
        return Long.compare(((Number) one).longValue(), ((Number) other).longValue());
    }

    private static BigDecimal exact(Object number) {
        return number instanceof Double
                ? new BigDecimal((Double) number)
                : BigDecimal.valueOf(((Number) number).longValue());
    }

    private static int rank(Object value) {
        if (value == LEAST) {
            return 0;
        }
        if (value == MOST) {
            return 5;
        }
        return value == null ? 1 : value instanceof Number ? 2 : value instanceof String ? 3 : 4;
    }
}
