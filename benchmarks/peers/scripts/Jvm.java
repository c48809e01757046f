// Spark without Python: binary files, ImageIO and ONNX Runtime for Java in mapPartitions, Parquet.
import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.awt.RenderingHints;
import java.awt.image.BufferedImage;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import javax.imageio.ImageIO;
import org.apache.spark.api.java.function.MapPartitionsFunction;
import org.apache.spark.sql.Encoders;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.RowFactory;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.types.StructType;

public class Jvm {
    static final int SIDE = Integer.parseInt(System.getenv("SIDE")), BATCH = 64;
    static final String WORK = System.getenv("WORK");
    static OrtSession session;

    // One for all tasks: each call runs on the thread of its task.
    static synchronized OrtSession session() throws OrtException {
        if (session == null) {
            var options = new OrtSession.SessionOptions();
            options.setIntraOpNumThreads(1);
            options.setInterOpNumThreads(1);
            session = OrtEnvironment.getEnvironment()
                .createSession(System.getenv("MODEL") + ".onnx", options);
        }
        return session;
    }

    static void decode(byte[] content, ByteBuffer into) throws IOException {
        var small = new BufferedImage(SIDE, SIDE, BufferedImage.TYPE_INT_RGB);
        var graphics = small.createGraphics();
        graphics.setRenderingHint(
            RenderingHints.KEY_INTERPOLATION, RenderingHints.VALUE_INTERPOLATION_BILINEAR);
        var image = ImageIO.read(new ByteArrayInputStream(content));
        graphics.drawImage(image, 0, 0, SIDE, SIDE, null);
        graphics.dispose();
        for (int rgb : small.getRGB(0, 0, SIDE, SIDE, null, 0, SIDE))
            into.put((byte) (rgb >> 16)).put((byte) (rgb >> 8)).put((byte) rgb);
    }

    static List<Row> predict(List<Row> files) throws OrtException, IOException {
        var pixels = ByteBuffer.allocateDirect(files.size() * SIDE * SIDE * 3);
        for (var file : files) decode(file.getAs("content"), pixels);
        long[] shape = {files.size(), SIDE, SIDE, 3};
        var name = session().getInputNames().iterator().next();
        var rows = new ArrayList<Row>();
        try (var tensor = OnnxTensor.createTensor(
                OrtEnvironment.getEnvironment(), pixels.rewind(), shape, OnnxJavaType.UINT8);
             var result = session().run(Map.of(name, tensor))) {
            var scores = (float[][]) result.get(0).getValue();
            for (int n = 0; n < scores.length; n++) {
                int best = 0;
                for (int k = 1; k < scores[n].length; k++)
                    if (scores[n][k] > scores[n][best]) best = k;
                rows.add(RowFactory.create(files.get(n).<String>getAs("path"), best));
            }
        }
        return rows;
    }

    static Iterator<Row> classify(Iterator<Row> files) throws OrtException, IOException {
        var rows = new ArrayList<Row>();
        while (files.hasNext()) {
            var batch = new ArrayList<Row>();
            while (files.hasNext() && batch.size() < BATCH) batch.add(files.next());
            rows.addAll(predict(batch));
        }
        return rows.iterator();
    }

    public static void main(String[] arguments) throws Exception {
        ImageIO.setUseCache(false);
        var spark = SparkSession.builder().master("local[" + System.getenv("CORES") + "]")
            .config("spark.driver.bindAddress", "127.0.0.1")
            // While another is measured all threads stand still; that is no lost executor.
            .config("spark.network.timeout", "1h")
            .config("spark.sql.files.maxPartitionBytes", "16m")
            .config("spark.sql.files.openCostInBytes", "16384")
            .config("spark.sql.sources.parallelPartitionDiscovery.threshold", "1000000")
            .config("spark.ui.enabled", "false").getOrCreate();
        spark.sparkContext().setLogLevel("ERROR");
        MapPartitionsFunction<Row, Row> predict = Jvm::classify;
        spark.readStream().format("binaryFile")
            .schema("path string, modificationTime timestamp, length long, content binary")
            .load(WORK + "/inbox/*").select("path", "content")
            .mapPartitions(predict, Encoders.row(StructType.fromDDL("path string, label int")))
            .writeStream().format("parquet").option("checkpointLocation", WORK + "/checkpoint")
            .start(WORK + "/rows").awaitTermination();
    }
}
