package ducklake;

import io.debezium.relational.TableId;
import io.debezium.schema.AbstractTopicNamingStrategy;
import io.debezium.spi.schema.DataCollectionId;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;

/**
 * The topic of each table: <code>{prefix}.{name in the lake}</code>, whatever the table is called in
 * MySQL. Debezium's own names would put an underscore for every character that Kafka does not take,
 * and two tables into one topic.
 *
 * <p>The setting <code>ducklake.topics</code> has an entry for each table,
 * <code>database.table:name</code>, with both names percent-encoded, and commas between them.
 */
public class MysqlTopics extends AbstractTopicNamingStrategy<DataCollectionId> {
    private Map<TableId, String> names;

    public MysqlTopics(Properties properties) {
        super(properties);
    }

    @Override
    public void configure(Properties properties) {
        super.configure(properties);
        names = new HashMap<>();
        for (String entry : properties.getProperty("ducklake.topics", "").split(",")) {
            int colon = entry.lastIndexOf(':');
            int dot = entry.indexOf('.');
            if (dot >= 0 && dot < colon) {
                TableId id = new TableId(
                    decoded(entry.substring(0, dot)), null, decoded(entry.substring(dot + 1, colon)));
                names.put(id, entry.substring(colon + 1));
            }
        }
    }

    @Override
    public String dataChangeTopic(DataCollectionId id) {
        String name = names.get(id);
        // a table of nobody's wish, such as one that an option of the source includes
        return name == null
            ? sanitizedTopicName(getSchemaPartsTopicName(id))
            : prefix + delimiter + name;
    }

    private static String decoded(String name) {
        return URLDecoder.decode(name, StandardCharsets.UTF_8);
    }
}
