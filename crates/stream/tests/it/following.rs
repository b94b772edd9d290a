//! What data planes serve while control planes come and go.

use cardinal_base::metrics::{MetricSource as _, MetricText};
use cardinal_ir::RecordKind;
use cardinal_sync::stream::ProtocolVersion;
use cardinal_testkit::{TempDir, until};

use crate::site::{Control, Start, shared, shared_certificate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_data_planes_follow_edits_and_a_restart() {
    let certificate = shared_certificate();
    let folders = [(); 3].map(|()| TempDir::new("stream"));
    let control = Control::start(shared(&certificate)).await;
    control.publish(&["a"], "s1", 1);
    // Versions of the protocol: this one, an older and a newer one.
    let minors = [0, 0, 1];
    let planes: Vec<_> = (0..3)
        .map(|at| {
            let protocol = ProtocolVersion { minor: minors[at], ..ProtocolVersion::CURRENT };
            let start = Start { protocol, ..Start::new(at as u128, &folders[at], shared(&certificate)) };
            start.data(&[control.address])
        })
        .collect();
    for plane in &planes {
        plane.serves(&["a"], "s1").await;
    }
    control.publish(&["a", "odd"], "s2", 2);
    for (at, plane) in planes.iter().enumerate() {
        plane.serves(&["a", "odd"], "s2").await;
        let proxy = control.reported(at as u128, 2).await;
        assert_eq!((proxy.is_connected, proxy.sent, proxy.lag(5), &*proxy.node.version), (true, 2, 3, "1.2.3"));
        assert_eq!((proxy.report.rejected, &*proxy.report.rejections[0].reason), (1, "is odd"));
        assert_eq!(proxy.report.rejections[0].type_name, RecordKind::PrincipalGroup.type_name());
    }
    let mut metrics = MetricText::default();
    control.server.write(&mut metrics);
    for line in [
        "stream_generation 2",
        "stream_data_planes_connected 3",
        "stream_lag_generations_max 0",
        "stream_data_planes_rejecting 3",
        "stream_generations_rejected_total{extent=\"whole\"} 0",
        "stream_generations_rejected_total{extent=\"part\"} 3",
        "stream_data_plane_rejected_records{node_id=\"00000000-0000-0000-0000-000000000001\"} 1",
        "stream_refused_total 0",
    ] {
        assert!(metrics.0.contains(&format!("cardinal_{line}\n")), "{line} {}", metrics.0);
    }
    assert!(control.server.sent_bytes() > 300, "{}", control.server.sent_bytes());
    let address = control.kill().await;
    let control = Control::start_at(address, shared(&certificate), None).await;
    control.publish(&["a", "odd"], "s2", 2);
    for at in 0..3 {
        control.reported(at, 2).await;
    }
    assert!(planes.iter().all(|plane| plane.generations() == 2), "what they have is not sent again");
    control.publish(&["b"], "s2", 3);
    for plane in &planes {
        plane.serves(&["b"], "s2").await;
    }
    assert_eq!(control.server.connected(), 3);
    for plane in planes {
        plane.stop().await;
    }
    until("all to have left", || control.server.connected() == 0).await.unwrap();
    assert_eq!(control.server.proxies().len(), 3, "they are remembered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_plane_starts_without_its_control_plane_and_catches_up() {
    let (certificate, folder) = (shared_certificate(), TempDir::new("stream"));
    let start = || Start::new(1, &folder, shared(&certificate));
    let control = Control::start(shared(&certificate)).await;
    control.publish(&["a", "b"], "s1", 1);
    let plane = start().data(&[control.address]);
    plane.serves(&["a", "b"], "s1").await;
    control.reported(1, 1).await;
    plane.stop().await;
    let address = control.kill().await;

    let plane = start().data(&[address]);
    plane.serves(&["a", "b"], "s1").await;
    let control = Control::start_at(address, shared(&certificate), None).await;
    control.publish(&["a", "c"], "s2", 5);
    plane.serves(&["a", "c"], "s2").await;
    let proxy = control.reported(1, 5).await;
    assert_eq!(proxy.report.rejected, 0);
    plane.stop().await;
    control.kill().await;

    // A file that was changed is not served.
    let mut saved = std::fs::read(folder.path().join("last-good.bin")).unwrap();
    let middle = saved.len() / 2;
    saved[middle] ^= 1;
    folder.write("last-good.bin", &saved);
    let plane = start().data(&[address]);
    let control = Control::start_at(address, shared(&certificate), None).await;
    control.publish(&["d"], "s3", 6);
    plane.serves(&["d"], "s3").await;
    assert_eq!(plane.generations(), 1);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_plane_moves_to_another_control_plane() {
    let (certificate, folder) = (shared_certificate(), TempDir::new("stream"));
    let mut controls = Vec::new();
    for _ in 0..2 {
        let control = Control::start(shared(&certificate)).await;
        control.publish(&["a"], "s", 1);
        controls.push(control);
    }
    let addresses: Vec<_> = controls.iter().map(|control| control.address).collect();
    let plane = Start::new(1, &folder, shared(&certificate)).data(&addresses);
    plane.serves(&["a"], "s").await;
    until("a connection", || controls.iter().any(|control| control.server.connected() == 1)).await.unwrap();
    let at = controls.iter().position(|control| control.server.connected() == 1).unwrap();
    controls.swap_remove(at).kill().await;
    let other = &controls[0];
    other.reported(1, 1).await;
    assert_eq!(plane.generations(), 1);
    other.publish(&["b"], "s", 2);
    plane.serves(&["b"], "s").await;
    plane.stop().await;
}
