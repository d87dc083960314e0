// SPDX-License-Identifier: GPL-3.0-or-later
// 8 threads that compress, inflate and hold direct buffers: what of Java lives in malloc's heap.
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CountDownLatch;
import java.util.zip.Deflater;
import java.util.zip.Inflater;

public class Work {
	public static void main(String[] args) throws Exception {
		CountDownLatch done = new CountDownLatch(8), never = new CountDownLatch(1);
		for (int n = 0; n < 8; n++) {
			int seed = n;
			new Thread(() -> {
				try {
					work(seed);
					done.countDown();
					never.await();
				} catch (Exception e) {
					e.printStackTrace();
					System.exit(2);
				}
			}, "worker-" + n).start();
		}
		done.await();
		System.gc();
		Thread.sleep(300);
		System.out.println("idle");
		never.await();
	}

	static final List<Object> kept = new ArrayList<>();

	static void work(int seed) throws Exception {
		Random random = new Random(seed);
		for (int i = 0; i < 200; i++) {
			byte[] in = new byte[20000], packed = new byte[30000], out = new byte[20000];
			for (int k = 0; k < in.length; k++)
				in[k] = (byte) random.nextInt(9);
			Deflater d = new Deflater();
			d.setInput(in);
			d.finish();
			int n = d.deflate(packed);
			Inflater f = new Inflater();
			f.setInput(packed, 0, n);
			f.inflate(out);
			ByteBuffer b = ByteBuffer.allocateDirect(100 + random.nextInt(60000));
			if (i % 5 == 0) {
				synchronized (kept) {
					kept.add(b);
					kept.add(d);
				}
			} else {
				d.end();
				f.end();
			}
		}
	}
}
