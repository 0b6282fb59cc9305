package ducklake;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.Date;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import org.apache.kafka.connect.data.Decimal;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.json.JsonConverter;

/** Random rows through Connect's own converter and through ours: prints what differs. */
public final class JsonTextCheck {
    private static final String ODD = "odd \"\\\u00f1\u0001";
    private static final Schema ROW = SchemaBuilder.struct()
        .field("byte", Schema.INT8_SCHEMA)
        .field("short", Schema.INT16_SCHEMA)
        .field("int", Schema.INT32_SCHEMA)
        .field("long", Schema.OPTIONAL_INT64_SCHEMA)
        .field("float", Schema.FLOAT32_SCHEMA)
        .field("double", Schema.FLOAT64_SCHEMA)
        .field("boolean", Schema.OPTIONAL_BOOLEAN_SCHEMA)
        .field("text", Schema.OPTIONAL_STRING_SCHEMA)
        .field("bytes", Schema.OPTIONAL_BYTES_SCHEMA)
        .field(ODD, Decimal.builder(3).optional().build())
        .field("date", org.apache.kafka.connect.data.Date.builder().optional().build())
        .field("default", SchemaBuilder.int32().optional().defaultValue(42).build())
        .optional().build();
    private static final Schema CHANGE = SchemaBuilder.struct()
        .field("before", ROW).field("after", ROW).field("op", Schema.STRING_SCHEMA).build();

    private JsonTextCheck() {
    }

    public static void main(String[] arguments) {
        Map<String, String> settings = Map.of("schemas.enable", "false",
            "replace.null.with.default", "false", "decimal.format", "NUMERIC");
        JsonConverter theirs = new JsonConverter();
        theirs.configure(settings, false);
        JsonConverter ours = new BoundedJson();
        ours.configure(settings, false);
        Random dice = new Random(Long.parseLong(arguments[0]));
        int direct = 0;
        int rows = Integer.parseInt(arguments[1]);
        for (int number = 0; number < rows; number++) {
            Struct change = new Struct(CHANGE).put("op", "u");
            for (String image : List.of("before", "after")) {
                if (dice.nextInt(4) > 0) {
                    change.put(image, row(dice, number));
                }
            }
            Object expected = written(theirs, change);
            Object found = written(ours, change);
            if (!Objects.deepEquals(expected, found)) {
                System.out.println("differs: " + text(expected) + " and " + text(found));
                return;
            }
            direct += JsonText.of(change) == null ? 0 : 1;
        }
        System.out.println("equal: " + rows + ", direct: " + (direct > rows / 2));
    }

    private static Struct row(Random dice, int number) {
        Struct row = new Struct(ROW)
            .put("byte", (byte) dice.nextInt())
            .put("short", (short) dice.nextInt())
            .put("int", dice.nextInt())
            .put("float", number % 50 == 0 ? Float.NaN : Float.intBitsToFloat(dice.nextInt()))
            .put("double", number % 50 == 1 ? Double.NEGATIVE_INFINITY
                : number % 50 == 2 ? -0.0 : Double.longBitsToDouble(dice.nextLong()));
        if (dice.nextBoolean()) {
            row.put("long", dice.nextLong()).put("boolean", dice.nextBoolean());
        }
        if (dice.nextInt(5) > 0) {
            row.put("text", words(dice, number));
        }
        if (dice.nextBoolean()) {
            byte[] bytes = new byte[dice.nextInt(20)];
            dice.nextBytes(bytes);
            row.put("bytes", dice.nextInt(9) == 0 ? ByteBuffer.wrap(bytes) : bytes);
        }
        if (dice.nextBoolean()) {
            row.put(ODD, new BigDecimal(new BigInteger(dice.nextInt(200), dice), 3));
        }
        if (number % 40 == 0) {
            row.put("date", new Date(86_400_000L * dice.nextInt(10_000)));
        }
        return row;
    }

    /** Control characters, letters of one to four bytes, and now and then half of one. */
    private static String words(Random dice, int number) {
        StringBuilder text = new StringBuilder();
        for (int left = dice.nextInt(number % 1000 == 0 ? 5000 : 12); left > 0; left--) {
            switch (dice.nextInt(4)) {
                case 0 -> text.appendCodePoint(dice.nextInt(32));
                case 1 -> text.appendCodePoint(0x1F600 + dice.nextInt(50));
                case 2 -> text.appendCodePoint(0x7f + dice.nextInt(3000));
                default -> text.appendCodePoint(32 + dice.nextInt(95));
            }
        }
        return text.append(number % 777 == 0 ? "\ud800" : "").toString();
    }

    private static Object written(JsonConverter converter, Struct change) {
        try {
            return converter.fromConnectData("topic", CHANGE, change);
        } catch (RuntimeException refused) {
            return refused.getClass().getName();
        }
    }

    private static String text(Object written) {
        return written instanceof byte[] bytes ? new String(bytes) : Arrays.toString(new Object[] {written});
    }
}
