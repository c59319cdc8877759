//! Hosts of static files, other than our own.

use std::path::PathBuf;

use axum::Router;
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue};
use tower_http::services::ServeDir;
use tower_http::set_header::SetResponseHeaderLayer;

/// A host that sends no headers of its own; its address, with a slash at the end.
pub fn bare_host(folder: PathBuf) -> String {
    start(Router::new().fallback_service(ServeDir::new(folder)))
}

/// One that lets pages of other sites read its files.
pub fn open_host(folder: PathBuf) -> String {
    let any = HeaderValue::from_static("*");
    let layer = SetResponseHeaderLayer::overriding(ACCESS_CONTROL_ALLOW_ORIGIN, any);
    start(
        Router::new()
            .fallback_service(ServeDir::new(folder))
            .layer(layer),
    )
}

fn start(router: Router) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound port has an address");
    listener.set_nonblocking(true).expect("a socket's option");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            axum::serve(listener, router).await
        })
    });
    format!("http://{address}/")
}
