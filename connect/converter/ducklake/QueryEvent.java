package ducklake;

import com.github.shyiko.mysql.binlog.event.QueryEventData;
import com.github.shyiko.mysql.binlog.event.deserialization.EventDataDeserializer;
import com.github.shyiko.mysql.binlog.io.ByteArrayInputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/** A statement of the binlog, with the modes of the session that ran it. */
final class QueryEvent extends QueryEventData {
    /** Bytes more than in a QUERY event, before the status variables: a file's part. */
    static final int LOAD_HEADER = 13;
    private static final int FLAGS = 0;
    private static final int SQL_MODE = 1;
    private static final long PIPES_AS_CONCAT = 2;
    private static final long ANSI_QUOTES = 4;
    private static final long IGNORE_SPACE = 8;
    private static final long NO_BACKSLASH_ESCAPES = 1 << 20;

    private transient String sqlMode = "";

    /** The modes that change how a statement reads, as `sql_mode` has them. */
    String sqlMode() {
        return sqlMode;
    }

    /** Reads the event, and the status variables that the library leaves out. */
    static final class Deserializer implements EventDataDeserializer<QueryEventData> {
        private final int more;

        Deserializer(int more) {
            this.more = more;
        }

        @Override
        public QueryEventData deserialize(ByteArrayInputStream input) throws IOException {
            QueryEvent event = new QueryEvent();
            event.setThreadId(input.readLong(4));
            event.setExecutionTime(input.readLong(4));
            input.readInteger(1); // the length of the database's name, which ends with a zero
            event.setErrorCode(input.readInteger(2));
            int length = input.readInteger(2);
            input.read(more);
            event.sqlMode = modes(input.read(length));
            event.setDatabase(input.readZeroTerminatedString());
            event.setSql(input.readString(input.available()));
            return event;
        }

        /** The server writes flags and mode first, in this order; each by its code. */
        private static String modes(byte[] status) {
            int at = 0;
            if (status.length >= 5 && status[0] == FLAGS) {
                at = 5;
            }
            if (status.length < at + 9 || status[at] != SQL_MODE) {
                return "";
            }
            long bits = 0;
            for (int i = 8; i > 0; i--) {
                bits = bits << 8 | status[at + i] & 0xff;
            }
            List<String> modes = new ArrayList<>();
            add(modes, bits, PIPES_AS_CONCAT, "PIPES_AS_CONCAT");
            add(modes, bits, ANSI_QUOTES, "ANSI_QUOTES");
            add(modes, bits, IGNORE_SPACE, "IGNORE_SPACE");
            add(modes, bits, NO_BACKSLASH_ESCAPES, "NO_BACKSLASH_ESCAPES");
            return String.join(",", modes);
        }

        private static void add(List<String> modes, long bits, long bit, String name) {
            if ((bits & bit) != 0) {
                modes.add(name);
            }
        }
    }
}
