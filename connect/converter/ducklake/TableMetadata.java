package ducklake;

import com.github.shyiko.mysql.binlog.event.TableMapEventMetadata;
import com.github.shyiko.mysql.binlog.event.deserialization.TableMapEventDataDeserializer;
import com.github.shyiko.mysql.binlog.event.deserialization.TableMapEventMetadataDeserializer;
import com.github.shyiko.mysql.binlog.io.ByteArrayInputStream;
import io.debezium.DebeziumException;
import java.io.IOException;
import java.lang.reflect.Field;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * What the binlog says of a table's columns beside their types. The library ends the reader at a
 * field that is not as long as it expects, such as the signs of a table with a YEAR (which MySQL
 * 8.0.15 does not count as a number); here such a field says nothing.
 */
final class TableMetadata extends TableMapEventMetadataDeserializer {
    private static final int SIGNS = 1;
    private static final int DEFAULT_CHARSET = 2;
    private static final int COLUMN_CHARSET = 3;
    private static final int NAMES = 4;
    private static final int YEAR = 13;

    /** A reader of table maps with this one in the place of the library's. */
    static TableMapEventDataDeserializer reader() {
        var reader = new TableMapEventDataDeserializer();
        try {
            Field part = TableMapEventDataDeserializer.class.getDeclaredField(
                "metadataDeserializer");
            part.setAccessible(true);
            part.set(reader, new TableMetadata());
        } catch (ReflectiveOperationException error) {
            throw new DebeziumException("This version of the binlog's reader is another one; use"
                + " the version that the README names.", error);
        }
        return reader;
    }

    @Override
    public TableMapEventMetadata deserialize(ByteArrayInputStream input, int columns, byte[] types)
            throws IOException {
        TableMapEventMetadata found = new TableMapEventMetadata();
        while (input.available() > 0) {
            int code = input.readInteger(1);
            byte[] field = input.read(input.readPackedInteger());
            switch (code) {
                case SIGNS -> found.setSignedness(signs(field, types));
                case DEFAULT_CHARSET -> found.setDefaultCharset(charsets(field));
                case COLUMN_CHARSET -> found.setColumnCharsets(numbers(field));
                case NAMES -> found.setColumnNames(names(field));
                default -> { }
            }
        }
        return found;
    }

    /** The columns that are unsigned; null where it cannot be told which columns are numbers. */
    private static BitSet signs(byte[] field, byte[] types) {
        BitSet unsigned = new BitSet();
        int numbers = 0;
        for (int i = 0; i < types.length; i++) {
            int type = types[i] & 0xff;
            if (type == YEAR) {
                return null;
            }
            if (TableMap.isNumber(type)) {
                if (numbers >> 3 >= field.length) {
                    return null;
                }
                unsigned.set(i, (field[numbers >> 3] & 0x80 >> numbers % 8) != 0);
                numbers++;
            }
        }
        return unsigned;
    }

    private static TableMapEventMetadata.DefaultCharset charsets(byte[] field) throws IOException {
        var input = new ByteArrayInputStream(field);
        var found = new TableMapEventMetadata.DefaultCharset();
        found.setDefaultCharsetCollation(input.readPackedInteger());
        Map<Integer, Integer> others = new LinkedHashMap<>();
        while (input.available() > 0) {
            int column = input.readPackedInteger();
            others.put(column, input.readPackedInteger());
        }
        found.setCharsetCollations(others);
        return found;
    }

    private static List<Integer> numbers(byte[] field) throws IOException {
        var input = new ByteArrayInputStream(field);
        List<Integer> found = new ArrayList<>();
        while (input.available() > 0) {
            found.add(input.readPackedInteger());
        }
        return found;
    }

    private static List<String> names(byte[] field) throws IOException {
        var input = new ByteArrayInputStream(field);
        List<String> found = new ArrayList<>();
        while (input.available() > 0) {
            found.add(input.readLengthEncodedString());
        }
        return found;
    }
}
