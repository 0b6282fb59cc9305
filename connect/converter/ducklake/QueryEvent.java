package ducklake;

import com.github.shyiko.mysql.binlog.event.QueryEventData;
import com.github.shyiko.mysql.binlog.event.deserialization.EventDataDeserializer;
import com.github.shyiko.mysql.binlog.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.function.IntFunction;

/** A statement of the binlog in its session's character set, with the modes of that session. */
final class QueryEvent extends QueryEventData {
    /** Bytes more than in a QUERY event, before the status variables: a file's part. */
    static final int LOAD_HEADER = 13;
    private static final int FLAGS = 0;
    private static final int SQL_MODE = 1;
    private static final int INCREMENTS = 3;
    private static final int CHARSET = 4;
    private static final int CATALOG = 6;
    private static final long PIPES_AS_CONCAT = 2;
    private static final long ANSI_QUOTES = 4;
    private static final long IGNORE_SPACE = 8;
    private static final long NO_BACKSLASH_ESCAPES = 1 << 20;
    private static final long STRICT = 1 << 21 | 1 << 22; // of transactional tables, and of all

    private transient String sqlMode = "";
    private transient boolean strict;

    /** The modes that change how a statement reads, as `sql_mode` has them. */
    String sqlMode() {
        return sqlMode;
    }

    /** Whether the session has MySQL refuse values that do not fit. */
    boolean isStrict() {
        return strict;
    }

    /** Reads the event, and the status variables that the library leaves out. */
    static final class Deserializer implements EventDataDeserializer<QueryEventData> {
        private final int more;
        private final IntFunction<Charset> charsets;

        /**
         * Make one.
         *
         * @param more bytes more before the status variables
         * @param charsets the character set of a collation's number
         */
        Deserializer(int more, IntFunction<Charset> charsets) {
            this.more = more;
            this.charsets = charsets;
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
            byte[] status = input.read(length);
            int mode = place(status, SQL_MODE, 8);
            long bits = mode < 0 ? 0 : number(status, mode, 8);
            event.sqlMode = modes(bits);
            event.strict = (bits & STRICT) != 0;
            event.setDatabase(input.readZeroTerminatedString());
            int charset = place(status, CHARSET, 6);
            Charset client = charset < 0 ? StandardCharsets.UTF_8
                : charsets.apply((int) number(status, charset, 2));
            event.setSql(new String(input.read(input.available()), client));
            return event;
        }

        /** Where a variable's value begins; -1 without it. The server writes them in one order. */
        private static int place(byte[] status, int code, int size) {
            int at = 0;
            while (at < status.length) {
                if (status[at] == code) {
                    return at + 1 + size <= status.length ? at + 1 : -1;
                }
                at += switch (status[at]) {
                    case FLAGS, INCREMENTS -> 5;
                    case SQL_MODE -> 9;
                    case CHARSET -> 7;
                    case CATALOG -> at + 1 < status.length ? 2 + (status[at + 1] & 0xff) : 2;
                    default -> status.length; // those behind it are of no use here
                };
            }
            return -1;
        }

        private static long number(byte[] status, int at, int size) {
            long bits = 0;
            for (int i = size - 1; i >= 0; i--) {
                bits = bits << 8 | status[at + i] & 0xff;
            }
            return bits;
        }

        private static String modes(long bits) {
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
