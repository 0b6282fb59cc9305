package ducklake;

import com.github.shyiko.mysql.binlog.BinaryLogClient;
import com.github.shyiko.mysql.binlog.event.DeleteRowsEventData;
import com.github.shyiko.mysql.binlog.event.Event;
import com.github.shyiko.mysql.binlog.event.EventHeaderV4;
import com.github.shyiko.mysql.binlog.event.EventType;
import com.github.shyiko.mysql.binlog.event.QueryEventData;
import com.github.shyiko.mysql.binlog.event.TableMapEventData;
import com.github.shyiko.mysql.binlog.event.UpdateRowsEventData;
import com.github.shyiko.mysql.binlog.event.WriteRowsEventData;
import com.github.shyiko.mysql.binlog.event.XAPrepareEventData;
import com.github.shyiko.mysql.binlog.event.deserialization.EventDeserializer;
import io.debezium.connector.binlog.BinlogChangeRecordEmitter;
import io.debezium.connector.binlog.charset.BinlogCharsetRegistry;
import io.debezium.connector.binlog.jdbc.BinlogConnectorConnection;
import io.debezium.connector.mysql.MySqlConnectorConfig;
import io.debezium.connector.mysql.MySqlOffsetContext;
import io.debezium.connector.mysql.MySqlPartition;
import io.debezium.connector.mysql.MySqlStreamingChangeEventSource;
import io.debezium.connector.mysql.MySqlStreamingChangeEventSourceMetrics;
import io.debezium.connector.mysql.MySqlTaskContext;
import io.debezium.data.Envelope.Operation;
import io.debezium.pipeline.ErrorHandler;
import io.debezium.pipeline.EventDispatcher;
import io.debezium.relational.Column;
import io.debezium.relational.Table;
import io.debezium.relational.TableId;
import io.debezium.schema.SchemaChangeEvent;
import io.debezium.schema.SchemaChangeEvent.SchemaChangeEventType;
import io.debezium.snapshot.SnapshotterService;
import io.debezium.util.Clock;
import java.io.Serializable;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.util.AbstractMap;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * Debezium's reader of the binlog, which goes on past what it does not understand. A table whose
 * definition is in doubt has its rows left out from the statement on until its definition has been
 * read from the server and fits the rows; the others go on.
 */
final class MysqlStream extends MySqlStreamingChangeEventSource {
    private static final long LARGE_BYTES = 4 * 1024 * 1024;
    private static final long AGAIN_NANOS = 1_000_000_000L;

    /** A table whose definition is not known for sure, and what was tried. */
    private static final class Doubt {
        final String statement;
        Server.Definition read;
        Table table;
        long rows;
        long next;

        Doubt(String statement) {
            this.statement = statement;
        }
    }

    /** A row of a transaction that is prepared, and may be rolled back yet. */
    private record Change(TableId id, Operation operation, Serializable[] before,
            Serializable[] after) {
    }

    private final MySqlConnectorConfig config;
    private final EventDispatcher<MySqlPartition, TableId> dispatcher;
    private final Clock clock;
    private final MysqlSchema schema;
    private final Server server;
    private final Charsets charsets;
    private final BinlogCharsetRegistry registry;
    private final Notices notices;
    private final Map<TableId, Doubt> doubts = new HashMap<>();
    /** Tables of which the server says what is believed here, though the binlog seems to differ. */
    private final Set<TableId> confirmed = new HashSet<>();
    private final Map<TableId, Server.Layout> layouts = new HashMap<>();
    private final Map<Long, int[]> selected = new HashMap<>();
    private final Map<Long, TableId> numbers = new HashMap<>();
    private final Set<TableId> mapped = new LinkedHashSet<>();
    private final Map<String, List<Change>> prepared = new HashMap<>();
    private List<Change> preparing;
    private String xid;
    private List<Server.Cascade> cascades;
    private MySqlPartition partition;
    private long transactions;
    /** Where the binlog was left before this start. */
    private Server.Position left;
    private boolean inTransaction;

    MysqlStream(MySqlConnectorConfig config, BinlogConnectorConnection connection,
            EventDispatcher<MySqlPartition, TableId> dispatcher, ErrorHandler errors, Clock clock,
            MySqlTaskContext context, MysqlSchema schema,
            MySqlStreamingChangeEventSourceMetrics metrics, SnapshotterService snapshotters,
            BinaryLogClient client, Server server, Charsets charsets) {
        super(config, connection, dispatcher, errors, clock, context, schema, metrics,
            snapshotters, client);
        this.config = config;
        this.dispatcher = dispatcher;
        this.clock = clock;
        this.schema = schema;
        this.server = server;
        this.charsets = charsets;
        this.registry = config.getServiceRegistry().getService(BinlogCharsetRegistry.class);
        this.notices = new Notices(dispatcher, config.getConfig().getString(Notices.TOPIC));
        schema.recovered().forEach((id, suspect) -> doubts.put(id, new Doubt(suspect.statement())));
    }

    @Override
    public void init(MySqlOffsetContext offset) {
        super.init(offset);
        schema.follow(getOffsetContext());
        left = here(getOffsetContext());
    }

    @Override
    protected EventDeserializer createEventDeserializer() {
        EventDeserializer deserializer = super.createEventDeserializer();
        deserializer.setEventDataDeserializer(EventType.QUERY, new QueryEvent.Deserializer(0, this::charset));
        deserializer.setEventDataDeserializer(EventType.TABLE_MAP, TableMetadata.reader());
        deserializer.setEventDataDeserializer(EventType.EXECUTE_LOAD_QUERY,
            new QueryEvent.Deserializer(QueryEvent.LOAD_HEADER, this::charset));
        return deserializer;
    }

    private Charset charset(int collation) {
        String name = registry.getCharsetNameForCollationIndex(collation);
        return name == null ? StandardCharsets.UTF_8 : charsets.named(name);
    }

    @Override
    protected void handleEvent(MySqlPartition partition, MySqlOffsetContext offset,
            ChangeEventSourceContext context, Event event) {
        this.partition = partition;
        if (event != null) {
            EventType type = event.getHeader().getEventType();
            if (type == EventType.GTID || type == EventType.ANONYMOUS_GTID
                    || type == EventType.GTID_TAGGED) {
                try {
                    settleDoubts(offset);
                } catch (InterruptedException error) {
                    Thread.currentThread().interrupt();
                }
                notices.nextTransaction();
                mapped.clear();
                transactions++;
                inTransaction = false;
            }
        }
        super.handleEvent(partition, offset, context, event);
    }

    /** The server is silent: all up to the end of its log has been read, which no event of it is. */
    @Override
    protected void handleServerHeartbeat(MySqlPartition partition, MySqlOffsetContext offset,
            Event event) throws InterruptedException {
        if (event.getHeader() instanceof EventHeaderV4 header && header.getNextPosition() > 0) {
            // Debezium takes off the length of a heartbeat, which is not in the log.
            offset.setEventPosition(header.getNextPosition(), 0);
            settleDoubts(offset);
        }
        super.handleServerHeartbeat(partition, offset, event);
    }

    /** Events that Debezium has no use for; some of them hold changes. */
    @Override
    protected void ignoreEvent(MySqlOffsetContext offset, Event event) {
        try {
            switch (event.getHeader().getEventType()) {
                case EXECUTE_LOAD_QUERY -> {
                    QueryEventData load = unwrapData(event);
                    tellStatement(offset, load, Statement.of(load.getSql(), false));
                }
                case PARTIAL_UPDATE_ROWS_EVENT, UNKNOWN -> {
                    for (TableId id : mapped) {
                        if (schema.captures(id)) {
                            tell(offset, id, "rows_unreadable", "", 1);
                        }
                    }
                }
                default -> super.ignoreEvent(offset, event);
            }
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }

    // Statements ------------------------------------------------------------------------------

    @Override
    protected void handleQueryEvent(MySqlPartition partition, MySqlOffsetContext offset,
            Event event) throws InterruptedException {
        QueryEventData query = unwrapData(event);
        String sql = query.getSql().trim();
        if (sql.equalsIgnoreCase("BEGIN") || sql.equalsIgnoreCase("COMMIT")) {
            inTransaction = sql.equalsIgnoreCase("BEGIN");
            super.handleQueryEvent(partition, offset, event);
            return;
        }
        if (query instanceof QueryEvent event8) {
            schema.parser().use(event8.sqlMode());
        }
        Statement statement = Statement.of(sql, schema.parser().ansiQuotes());
        if (statement.startsWith("XA")) {
            distributed(offset, sql);
        } else if (statement.changesRows()) {
            tellStatement(offset, query, statement);
        } else if (statement.definesTables()) {
            define(offset, event, query, statement);
            if (!inTransaction && !statement.has("START", "TRANSACTION")) {
                // Debezium does this for rows only, and would read the statement again
                offset.commitTransaction();
            }
        }
    }

    /** Whether the definitions that were known at the start may have this statement in them. */
    private boolean isRepeated(MySqlOffsetContext offset, Event event) {
        return left != null && event.getHeader() instanceof EventHeaderV4 header
            && left.equals(new Server.Position(offset.getSource().binlogFilename(),
                header.getNextPosition()));
    }

    private void define(MySqlOffsetContext offset, Event event, QueryEventData query,
            Statement statement) throws InterruptedException {
        cascades = null;
        Set<TableId> replaced = replaced(offset, query, statement);
        TableId altered = statement.altered() == null ? null : id(query, statement.altered());
        Table before = altered == null ? null : schema.tableFor(altered);
        if (altered != null && isRepeated(offset, event)) {
            if (schema.captures(altered)) {
                doubt(offset, altered, statement.shown());
                tell(offset, altered, Alteration.CHANGED, statement.shown(), 0);
            }
            return;
        }
        super.handleQueryEvent(partition, offset, event);
        Map<TableId, TolerantDdlParser.Suspect> suspects = schema.parser().takeSuspects();
        if (schema.parser().failed() != null && suspects.isEmpty()) {
            tell(offset, null, "statement_skipped", statement.beginning(), 0);
        }
        for (var suspect : suspects.entrySet()) {
            doubt(offset, suspect.getKey(), suspect.getValue().statement());
        }
        for (TableId id : named(query, statement)) {
            confirmed.remove(id);
            layouts.remove(id);
            doubts.computeIfPresent(id, (same, doubt) -> {
                doubt.read = null; // of before this statement
                doubt.next = 0;
                return doubt;
            });
        }
        for (TableId id : replaced) {
            tell(offset, id, "table_replaced", statement.shown(), 0);
        }
        if (altered != null && schema.captures(altered)) {
            if (statement.has("DROP", "PARTITION") || statement.has("TRUNCATE", "PARTITION")
                    || statement.has("EXCHANGE", "PARTITION")
                    || statement.has("IMPORT", "TABLESPACE")
                    || statement.has("IMPORT", "PARTITION")) {
                tell(offset, altered, "rows_not_in_binlog", statement.shown(), 0);
            }
            boolean strict = query instanceof QueryEvent event8 && event8.isStrict();
            tellAlteration(offset, altered, before, statement, strict);
        }
    }

    private void tellAlteration(MySqlOffsetContext offset, TableId id, Table before,
            Statement statement, boolean strict) throws InterruptedException {
        String kind = new Alteration(before, schema.tableFor(id), statement, strict).kind();
        if (kind != null) {
            tell(offset, id, kind, statement.shown(), 0);
        }
    }

    /** Empty tables that are dropped or lose their name; the tables that get another's rows. */
    private Set<TableId> replaced(MySqlOffsetContext offset, QueryEventData query,
            Statement statement) throws InterruptedException {
        Set<TableId> emptied = new LinkedHashSet<>();
        for (Statement.Named named : statement.dropped()) {
            emptied.add(id(query, named));
        }
        String database = statement.droppedDatabase();
        for (TableId id : schema.tableIds()) {
            if (id.catalog() != null && id.catalog().equals(database)) {
                emptied.add(id);
            }
        }
        Set<TableId> replaced = new LinkedHashSet<>();
        for (Statement.Named[] pair : statement.renamed()) {
            emptied.add(id(query, pair[0]));
            replaced.remove(id(query, pair[0]));
            replaced.add(id(query, pair[1]));
            emptied.remove(id(query, pair[1]));
        }
        for (TableId id : emptied) {
            if (schema.captures(id) && schema.schemaFor(id) != null) {
                emit(offset, id, Operation.TRUNCATE, null, null);
            }
        }
        replaced.removeIf(id -> !schema.captures(id));
        return replaced;
    }

    private void tellStatement(MySqlOffsetContext offset, QueryEventData query,
            Statement statement) throws InterruptedException {
        boolean any = false;
        for (TableId id : named(query, statement)) {
            any = true;
            tell(offset, id, "rows_not_in_binlog", statement.shown(), 0);
        }
        // a function or a view may have changed any table; a table that is not ours has not
        if (!any && (statement.startsWith("SELECT") || statement.startsWith("CALL")
                || statement.startsWith("DO") || !namesTable(query, statement))) {
            tell(offset, null, "rows_not_in_binlog", statement.beginning(), 0);
        }
    }

    private boolean namesTable(QueryEventData query, Statement statement) {
        return statement.names().stream().map(named -> id(query, named))
            .anyMatch(id -> id.catalog() != null && schema.isKnown(id));
    }

    private Set<TableId> named(QueryEventData query, Statement statement) {
        Set<TableId> found = new LinkedHashSet<>();
        for (Statement.Named named : statement.names()) {
            TableId id = id(query, named);
            if (id.catalog() != null && schema.captures(id)) {
                found.add(id);
            }
        }
        return found;
    }

    private static TableId id(QueryEventData query, Statement.Named named) {
        return new TableId(named.database() == null ? query.getDatabase() : named.database(),
            null, named.table());
    }

    // Definitions -----------------------------------------------------------------------------

    private Doubt doubt(MySqlOffsetContext offset, TableId id, String statement)
            throws InterruptedException {
        Doubt doubt = new Doubt(statement);
        doubts.put(id, doubt);
        read(id, doubt);
        return doubt;
    }

    private void read(TableId id, Doubt doubt) {
        doubt.next = System.nanoTime() + AGAIN_NANOS;
        doubt.read = server.definition(id);
        doubt.table = doubt.read == null ? null : schema.defined(id, doubt.read.createTable());
    }

    @Override
    protected void handleUpdateTableMetadata(MySqlPartition partition, MySqlOffsetContext offset,
            Event event) throws InterruptedException {
        TableMapEventData map = unwrapData(event);
        TableId id = new TableId(map.getDatabase(), null, map.getTable());
        numbers.put(map.getTableId(), id);
        mapped.add(id);
        if (!schema.captures(id) || isSettled(offset, id, map)) {
            super.handleUpdateTableMetadata(partition, offset, event);
        }
    }

    /** Whether the rows that follow can be read by the definition that is known. */
    private boolean isSettled(MySqlOffsetContext offset, TableId id, TableMapEventData data)
            throws InterruptedException {
        Doubt doubt = doubts.get(id);
        Table believed = schema.tableFor(id);
        TableMap map = shown(id, data, believed);
        if (doubt == null) {
            selected.put(data.getTableId(), map.selected());
            if (believed != null && (confirmed.contains(id) ? map.fits(believed)
                    : map.fitsExactly(believed, registry))) {
                return true;
            }
            Table corrected = believed == null ? null : map.withCharsets(believed, registry);
            if (corrected != null) {
                schema.adopt(corrected);
                return true;
            }
            doubt = doubt(offset, id, "");
        }
        if (doubt.read == null && System.nanoTime() >= doubt.next) {
            read(id, doubt);
        }
        if (doubt.table == null) {
            return false;
        }
        map = shown(id, data, doubt.table);
        selected.put(data.getTableId(), map.selected());
        boolean same = believed != null && doubt.table.columns().equals(believed.columns());
        boolean reached = here(offset).compareTo(doubt.read.end()) >= 0;
        boolean fits = map.fitsExactly(doubt.table, registry);
        if (!fits && same && map.fits(doubt.table)) {
            confirmed.add(id);
            fits = true;
        }
        if (fits && (same || reached || map.namesColumns())) {
            adopt(offset, id, doubt, believed);
            return true;
        }
        if (reached) {
            doubt.read = null;
            doubt.table = null;
        }
        return false;
    }

    /** Have the definitions that the server had where the reader is now, before any row comes. */
    private void settleDoubts(MySqlOffsetContext offset) throws InterruptedException {
        for (var entry : List.copyOf(doubts.entrySet())) {
            Doubt doubt = entry.getValue();
            if (doubt.read == null && System.nanoTime() >= doubt.next) {
                read(entry.getKey(), doubt);
            }
            if (doubt.table != null && doubt.read != null
                    && here(offset).compareTo(doubt.read.end()) >= 0) {
                adopt(offset, entry.getKey(), doubt, schema.tableFor(entry.getKey()));
            }
        }
    }

    /** A table map without the columns that a definition does not show. */
    private TableMap shown(TableId id, TableMapEventData data, Table table) {
        int columns = data.getColumnTypes().length;
        if (table == null || columns <= table.columns().size()) {
            return new TableMap(data, null);
        }
        Server.Layout layout = layouts.computeIfAbsent(id, server::layout);
        List<String> named = TableMap.names(data);
        List<String> names = named != null ? named : layout.columns();
        int[] at = IntStream.range(0, names.size())
            .filter(i -> !layout.hidden().contains(names.get(i))).toArray();
        List<String> visible = IntStream.of(at).mapToObj(names::get).toList();
        boolean same = visible.equals(table.columns().stream().map(Column::name).toList());
        return new TableMap(data, same && names.size() == columns ? at : null);
    }

    private void adopt(MySqlOffsetContext offset, TableId id, Doubt doubt, Table believed)
            throws InterruptedException {
        doubts.remove(id);
        schema.adopt(doubt.table);
        offset.tableEvent(id.catalog(), Set.of(id), eventTimestamp);
        SchemaChangeEvent change = SchemaChangeEvent.of(
            believed == null ? SchemaChangeEventType.CREATE : SchemaChangeEventType.ALTER,
            partition, offset, id.catalog(), null, doubt.read.createTable(), doubt.table, false);
        dispatcher.dispatchSchemaChangeEvent(partition, offset, id, receiver -> {
            receiver.schemaChangeEvent(change);
        });
        if (believed == null) {
            // made by a statement that was not understood; its rows are all in the binlog
            tell(offset, null, "statement_applied", doubt.statement, 0);
        } else {
            tellAlteration(offset, id, believed,
                Statement.of(doubt.statement, schema.parser().ansiQuotes()), false);
        }
    }

    private static Server.Position here(MySqlOffsetContext offset) {
        return new Server.Position(offset.getSource().binlogFilename(),
            offset.getSource().binlogPosition());
    }

    // Rows ------------------------------------------------------------------------------------

    @Override
    protected void handleInsert(MySqlPartition partition, MySqlOffsetContext offset, Event event)
            throws InterruptedException {
        WriteRowsEventData data = unwrapData(event);
        int[] at = selected.get(data.getTableId());
        if (at != null) {
            BitSet included = data.getIncludedColumns();
            data.setRows(data.getRows().stream().map(row -> select(row, included, at)).toList());
            data.setIncludedColumns(select(included, at));
        }
        if (takes(offset, data.getTableId(), data.getRows().size(), data.getIncludedColumns())) {
            super.handleInsert(partition, offset, event);
            data.getRows().forEach(row -> prepare(data.getTableId(), Operation.DELETE, row, null));
        }
    }

    @Override
    protected void handleUpdate(MySqlPartition partition, MySqlOffsetContext offset, Event event)
            throws InterruptedException {
        UpdateRowsEventData data = unwrapData(event);
        int[] at = selected.get(data.getTableId());
        if (at != null) {
            BitSet before = data.getIncludedColumnsBeforeUpdate();
            BitSet after = data.getIncludedColumns();
            data.setRows(data.getRows().stream().map(row -> Map.entry(
                select(row.getKey(), before, at), select(row.getValue(), after, at))).toList());
            data.setIncludedColumns(select(after, at));
            data.setIncludedColumnsBeforeUpdate(select(before, at));
        }
        List<Map.Entry<Serializable[], Serializable[]>> rows = data.getRows();
        data.setRows(rows.stream().map(row -> bounded(numbers.get(data.getTableId()), row)).toList());
        if (takes(offset, data.getTableId(), data.getRows().size(), data.getIncludedColumns(),
                data.getIncludedColumnsBeforeUpdate())) {
            super.handleUpdate(partition, offset, event);
            rows.forEach(row ->
                prepare(data.getTableId(), Operation.UPDATE, row.getValue(), row.getKey()));
        }
        for (Server.Cascade cascade : cascadesOf(numbers.get(data.getTableId()))) {
            int i = cascade.column();
            boolean moves = rows.stream().anyMatch(row ->
                i >= row.getKey().length || i >= row.getValue().length
                || !Objects.deepEquals(row.getKey()[i], row.getValue()[i]));
            if (cascade.updates() && moves) {
                tellCascade(offset, cascade, new LinkedHashSet<>());
            }
        }
    }

    @Override
    protected void handleDelete(MySqlPartition partition, MySqlOffsetContext offset, Event event)
            throws InterruptedException {
        DeleteRowsEventData data = unwrapData(event);
        int[] at = selected.get(data.getTableId());
        if (at != null) {
            BitSet included = data.getIncludedColumns();
            data.setRows(data.getRows().stream().map(row -> select(row, included, at)).toList());
            data.setIncludedColumns(select(included, at));
        }
        if (takes(offset, data.getTableId(), data.getRows().size(), data.getIncludedColumns())) {
            super.handleDelete(partition, offset, event);
            data.getRows().forEach(row -> prepare(data.getTableId(), Operation.CREATE, null, row));
        }
        for (Server.Cascade cascade : cascadesOf(numbers.get(data.getTableId()))) {
            if (cascade.deletes()) {
                tellCascade(offset, cascade, new LinkedHashSet<>());
            }
        }
    }

    private static Serializable[] select(Serializable[] row, BitSet included, int[] at) {
        Serializable[] found = new Serializable[at.length];
        for (int i = 0; i < at.length; i++) {
            found[i] = included.get(at[i]) ? row[included.get(0, at[i]).cardinality()] : null;
        }
        return found;
    }

    private static BitSet select(BitSet included, int[] at) {
        BitSet found = new BitSet();
        for (int i = 0; i < at.length; i++) {
            found.set(i, included.get(at[i]));
        }
        return found;
    }

    /** Whether rows of a table are emitted; what is left out is told. */
    private boolean takes(MySqlOffsetContext offset, long number, int rows, BitSet... included)
            throws InterruptedException {
        TableId id = numbers.get(number);
        if (id == null || !schema.captures(id)) {
            return true;
        }
        Doubt doubt = doubts.get(id);
        if (doubt != null) {
            doubt.rows += rows;
            tell(offset, id, "definition_unknown", doubt.statement, doubt.rows);
            return false;
        }
        Table table = schema.tableFor(id);
        for (BitSet columns : included) {
            if (table != null && columns.cardinality() < table.columns().size()) {
                tell(offset, id, "rows_partial", "", rows);
                return false;
            }
        }
        return true;
    }

    /** A change of a large row without the row before it, which nobody reads; the key is the same. */
    private Map.Entry<Serializable[], Serializable[]> bounded(TableId id,
            Map.Entry<Serializable[], Serializable[]> row) {
        Table table = id == null ? null : schema.tableFor(id);
        if (table == null || size(row.getKey()) + size(row.getValue()) <= LARGE_BYTES) {
            return row;
        }
        for (String name : table.primaryKeyColumnNames()) {
            int i = table.columnWithName(name).position() - 1;
            if (i >= row.getKey().length || i >= row.getValue().length
                    || !Objects.deepEquals(row.getKey()[i], row.getValue()[i])) {
                return row;
            }
        }
        return new AbstractMap.SimpleImmutableEntry<>(null, row.getValue());
    }

    private static long size(Serializable[] row) {
        long bytes = 0;
        for (Serializable value : row) {
            bytes += value instanceof byte[] array ? array.length
                : value instanceof CharSequence text ? text.length() : 8;
        }
        return bytes;
    }

    private List<Server.Cascade> cascadesOf(TableId parent) {
        if (cascades == null) {
            List<Server.Cascade> found = server.cascades();
            cascades = found == null ? List.of() : found;
        }
        return cascades.stream().filter(cascade -> cascade.parent().equals(parent)).toList();
    }

    private void tellCascade(MySqlOffsetContext offset, Server.Cascade cascade, Set<TableId> seen)
            throws InterruptedException {
        if (!seen.add(cascade.child())) {
            return;
        }
        if (schema.captures(cascade.child())) {
            tell(offset, cascade.child(), "foreign_key", "", 0);
        }
        for (Server.Cascade next : cascadesOf(cascade.child())) {
            tellCascade(offset, next, seen);
        }
    }

    // Distributed transactions ----------------------------------------------------------------

    /** The rows of one are in the binlog when it is prepared; a rollback comes without any. */
    private void distributed(MySqlOffsetContext offset, String sql) throws InterruptedException {
        String[] words = sql.split("\\s+", 3);
        String verb = words.length > 1 ? words[1].toUpperCase() : "";
        String id = words.length > 2 ? words[2].replaceAll("\\s", "") : "";
        switch (verb) {
            case "START", "BEGIN" -> {
                xid = id;
                // the first transaction after a start may have been read in part before
                preparing = transactions > 1 ? new ArrayList<>() : null;
            }
            case "COMMIT" -> prepared.remove(id);
            case "ROLLBACK" -> rollBack(offset, prepared.remove(id));
            default -> { }
        }
    }

    @Override
    protected void prepareTransaction(MySqlOffsetContext offset, Event event)
            throws InterruptedException {
        XAPrepareEventData data = unwrapData(event);
        if (xid != null && preparing != null && !data.isOnePhase()) {
            prepared.put(xid, preparing);
        }
        xid = null;
        preparing = null;
        super.prepareTransaction(offset, event);
    }

    private void prepare(long number, Operation undo, Serializable[] before,
            Serializable[] after) {
        TableId id = numbers.get(number);
        if (preparing != null && id != null && schema.captures(id)) {
            preparing.add(new Change(id, undo, before, after));
        }
    }

    private void rollBack(MySqlOffsetContext offset, List<Change> changes)
            throws InterruptedException {
        if (changes == null) {
            tell(offset, null, "rolled_back", "XA ROLLBACK", 0);
            return;
        }
        for (int i = changes.size() - 1; i >= 0; i--) {
            Change change = changes.get(i);
            emit(offset, change.id(), change.operation(), change.before(), change.after());
        }
    }

    private void emit(MySqlOffsetContext offset, TableId id, Operation operation,
            Serializable[] before, Serializable[] after) throws InterruptedException {
        offset.event(id, eventTimestamp);
        dispatcher.dispatchDataChangeEvent(partition, id, new BinlogChangeRecordEmitter<>(
            partition, offset, clock, operation, before, after, config));
    }

    private void tell(MySqlOffsetContext offset, TableId id, String kind, String statement,
            long rows) throws InterruptedException {
        notices.tell(partition, offset, eventTimestamp, id, kind, statement, rows);
    }
}
