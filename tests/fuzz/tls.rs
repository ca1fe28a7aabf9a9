//! What a TLS peer says beside its data once the connection runs.

use engine::connect::tls::Messages;

/// The first byte says which version it is and where the records are cut, which must make no difference.
pub fn messages(data: &[u8]) {
    let Some((choice, stream)) = data.split_first() else { return };
    let tls13 = choice & 1 == 1;
    let (front, back) = stream.split_at(usize::from(choice >> 1).min(stream.len()));
    let (mut whole, mut cut) = (Messages::default(), Messages::default());
    match cut.read(front, tls13) {
        // Behind it are other keys: it has to end its record.
        Ok(Some(_)) => {
            assert!(tls13 && !cut.is_within());
            assert!(back.is_empty() || whole.read(stream, tls13).is_err());
        }
        Ok(None) => {
            assert_eq!(cut.read(back, tls13), whole.read(stream, tls13));
            assert_eq!(cut, whole);
        }
        refused => assert_eq!(refused, whole.read(stream, tls13)),
    }
}
