//! `tcp://` where some of a producer's connections are lost for good.

use crate::harness::Scratch;
use crate::report::total;
use crate::tcp::{BACK_ENDS, run};
use std::io::Read;
use std::net::{TcpListener, TcpStream};

#[test]
fn a_connection_that_is_not_found_again_holds_up_no_other() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let mut streams: Vec<TcpStream> = (0..4).map(|_| listener.accept().unwrap().0).collect();
            // From here on nobody gets a connection.
            drop(listener);
            let mut lost = streams.remove(0);
            lost.read_exact(&mut [0]).unwrap();
            drop(lost);
            let read = |mut stream: TcpStream| move || std::io::copy(&mut stream, &mut std::io::sink());
            let readers: Vec<_> = streams.into_iter().map(|stream| std::thread::spawn(read(stream))).collect();
            readers.into_iter().for_each(|reader| drop(reader.join().unwrap()));
        });
        let words = format!(
            "--target tcp://{address} --io {io} --connections 4 --parallel 1 --bytes 256Mi --ring-size 4Mi \
             --duration 60s --drain-timeout 200ms"
        );
        let report = run(&scratch, &words, 1);
        server.join().unwrap();
        // What that connection had is lost, and no more.
        assert!(total(&report, "bytes_produced") > 240 << 20, "{:#}", report["totals"]);
        assert!(total(&report, "records_failed") + total(&report, "records_uncertain") > 0, "{:#}", report["totals"]);
    }
}
