package ducklake;

import io.debezium.connector.binlog.jdbc.BinlogConnectorConnection;
import io.debezium.DebeziumException;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.Charset;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.CharsetEncoder;
import java.nio.charset.CoderResult;
import java.nio.charset.StandardCharsets;
import java.sql.SQLException;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.function.Supplier;

/**
 * The character sets of MySQL, with the characters that the server itself gives to their bytes. Java
 * lacks some of them, and reads some bytes of others (latin1, sjis, ujis, …) in another way.
 */
final class Charsets {
    private static final char NONE = '\uffff';
    private static final char UNKNOWN = '?';
    private static final int SINGLE = 0x100;
    private static final int HALF = 0x8000;
    private static final int FOURS = 4 * 10 * 126 * 10;
    private static final String AS_IT_IS = "n";
    private static final String PAIR = "0x8000 + n";
    private static final String TRIPLE = "0x8f8000 + n";
    private static final String FOUR = "(129 + n DIV 12600) * 16777216 + (48 + n DIV 1260 MOD 10)"
        + " * 65536 + (129 + n DIV 10 MOD 126) * 256 + 48 + n MOD 10";
    private static final Map<String, Charset> UNICODE = Map.of(
        "utf8", StandardCharsets.UTF_8, "utf8mb3", StandardCharsets.UTF_8,
        "utf8mb4", StandardCharsets.UTF_8, "ucs2", StandardCharsets.UTF_16BE,
        "utf16", StandardCharsets.UTF_16BE, "utf16le", StandardCharsets.UTF_16LE,
        "utf32", Charset.forName("UTF-32BE"), "binary", StandardCharsets.ISO_8859_1);
    private static final Set<String> WIDE = Set.of(
        "big5", "cp932", "eucjpms", "euckr", "gb18030", "gb2312", "gbk", "sjis", "ujis");
    private static final String WIDEST = "gb18030";
    private static final Set<String> WIDER = Set.of("eucjpms", "ujis");
    private static final String DIGITS = "(SELECT 0 AS i UNION ALL SELECT 1 UNION ALL SELECT 2"
        + " UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6"
        + " UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9 UNION ALL SELECT 10"
        + " UNION ALL SELECT 11 UNION ALL SELECT 12 UNION ALL SELECT 13 UNION ALL SELECT 14"
        + " UNION ALL SELECT 15)";

    private final Supplier<BinlogConnectorConnection> connections;
    private final Map<String, Charset> known = new HashMap<>(UNICODE);

    Charsets(Supplier<BinlogConnectorConnection> connections) {
        this.connections = connections;
    }

    /** The character set of a name of MySQL's; the server is asked once for each. */
    synchronized Charset named(String name) {
        return known.computeIfAbsent(name.toLowerCase(Locale.ROOT), this::read);
    }

    private Charset read(String name) {
        if (!name.matches("[a-z0-9_]+")) {
            throw new DebeziumException("MySQL has no character set " + name);
        }
        try (BinlogConnectorConnection connection = connections.get()) {
            char[] single = characters(connection, name, AS_IT_IS, SINGLE);
            char[] pairs = WIDE.contains(name) ? characters(connection, name, PAIR, HALF) : null;
            char[] triples =
                WIDER.contains(name) ? characters(connection, name, TRIPLE, HALF) : null;
            char[] fours =
                name.equals(WIDEST) ? characters(connection, name, FOUR, FOURS) : null;
            return new OfServer(name, single, pairs, triples, fours);
        } catch (SQLException error) {
            throw new DebeziumException("The character set " + name + " cannot be read from MySQL: "
                + error.getMessage(), error);
        }
    }

    /** What each number is as one character, its bytes being those of an expression of n. */
    private static char[] characters(BinlogConnectorConnection connection, String name,
            String bytes, int count) throws SQLException {
        char[] found = new char[count];
        Arrays.fill(found, NONE);
        connection.query("SELECT n, HEX(CONVERT(CONVERT(CHAR(" + bytes + ") USING " + name
            + ") USING utf16)) FROM (SELECT a.i + 16 * b.i + 256 * c.i + 4096 * d.i AS n FROM "
            + DIGITS + " a, " + DIGITS + " b, " + DIGITS + " c, " + DIGITS + " d WHERE d.i <= "
            + (count - 1) / 4096 + " AND c.i <= " + Math.min(15, (count - 1) / 256)
            + ") AS numbers WHERE n < " + count, rows -> {
                while (rows.next()) {
                    String hex = rows.getString(2);
                    if (hex != null && hex.length() == 4) { // else it is none, or two characters
                        found[rows.getInt(1)] = (char) Integer.parseInt(hex, 16);
                    }
                }
            });
        return found;
    }

    /** A character set as a table of what the server says. */
    private static final class OfServer extends Charset {
        private final char[] single;
        private final char[] pairs;
        private final char[] triples;
        private final char[] fours;

        OfServer(String name, char[] single, char[] pairs, char[] triples, char[] fours) {
            super("x-mysql-" + name.replace('_', '-'), null);
            this.single = single;
            this.pairs = pairs;
            this.triples = triples;
            this.fours = fours;
        }

        @Override
        public boolean contains(Charset other) {
            return false;
        }

        @Override
        public boolean canEncode() {
            return false;
        }

        @Override
        public CharsetEncoder newEncoder() {
            throw new UnsupportedOperationException(name() + " is only read");
        }

        @Override
        public CharsetDecoder newDecoder() {
            return new CharsetDecoder(this, 1, 1) {
                @Override
                protected CoderResult decodeLoop(ByteBuffer in, CharBuffer out) {
                    while (in.hasRemaining()) {
                        if (out.remaining() < 2) { // two, for a character of four bytes
                            if (!out.hasRemaining() || in.remaining() > 3) {
                                return CoderResult.OVERFLOW;
                            }
                        }
                        next(in, out);
                    }
                    return CoderResult.UNDERFLOW;
                }
            };
        }

        private void next(ByteBuffer in, CharBuffer out) {
            int start = in.position();
            int left = in.remaining();
            int first = in.get(start) & 0xff;
            char found = single[first];
            int length = 1;
            if (found == NONE && left > 3 && fours != null && isDigit(in.get(start + 1))) {
                int number = ((first - 0x81) * 10 + in.get(start + 1) - '0') * 1260
                    + ((in.get(start + 2) & 0xff) - 0x81) * 10 + in.get(start + 3) - '0';
                in.position(start + 4);
                if (first >= 0x90) { // beyond the basic plane, in order
                    out.put(Character.toChars(0x10000 + number - (0x90 - 0x81) * 12600));
                } else {
                    out.put(number >= fours.length || fours[number] == NONE ? UNKNOWN
                        : fours[number]);
                }
                return;
            }
            if (found == NONE && left > 2 && triples != null && first == 0x8f) {
                int number = (in.get(start + 1) & 0xff) << 8 | in.get(start + 2) & 0xff;
                found = number < HALF ? NONE : triples[number - HALF];
                length = 3;
            }
            if (found == NONE && left > 1 && pairs != null && first >= 0x80) {
                found = pairs[(first << 8 | in.get(start + 1) & 0xff) - HALF];
                length = 2;
            }
            if (found == NONE) {
                found = UNKNOWN;
                length = 1;
            }
            in.position(start + length);
            out.put(found);
        }

        private static boolean isDigit(byte b) {
            return b >= '0' && b <= '9';
        }
    }
}
