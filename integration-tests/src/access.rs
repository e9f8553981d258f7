//! Access lists of Apache Kafka, for which `rdkafka` has no call.

use std::ffi::CString;
use std::ptr;

use anyhow::{Result, ensure};
use rdkafka::bindings as raw;
use rdkafka::client::{Client, DefaultClientContext};

/// Something that somebody may do.
#[derive(Debug, Clone, Copy)]
pub enum Permission<'a> {
    /// See a topic.
    DescribeTopic(&'a str),
    /// Read a topic.
    ReadTopic(&'a str),
    /// Publish offsets of a group.
    ReadGroup(&'a str),
}

/// Lets `user` do something, from everywhere.
#[expect(unsafe_code, reason = "rdkafka wraps no call for access lists")]
pub(crate) fn allow(client: &Client<DefaultClientContext>, user: &str, permission: Permission<'_>) -> Result<()> {
    use raw::rd_kafka_AclOperation_t::{RD_KAFKA_ACL_OPERATION_DESCRIBE, RD_KAFKA_ACL_OPERATION_READ};
    use raw::rd_kafka_ResourceType_t::{RD_KAFKA_RESOURCE_GROUP, RD_KAFKA_RESOURCE_TOPIC};

    let (resource, name, operation) = match permission {
        Permission::DescribeTopic(name) => (RD_KAFKA_RESOURCE_TOPIC, name, RD_KAFKA_ACL_OPERATION_DESCRIBE),
        Permission::ReadTopic(name) => (RD_KAFKA_RESOURCE_TOPIC, name, RD_KAFKA_ACL_OPERATION_READ),
        Permission::ReadGroup(name) => (RD_KAFKA_RESOURCE_GROUP, name, RD_KAFKA_ACL_OPERATION_READ),
    };
    let (name, user, host) = (CString::new(name)?, CString::new(format!("User:{user}"))?, CString::new("*")?);
    // SAFETY: the client lives as long as its borrow, the strings to the end of the function, and the call copies them;
    // the binding and the queue are made here and destroyed here, after the answer came, which the event holds.
    let code = unsafe {
        let mut binding = raw::rd_kafka_AclBinding_new(
            resource,
            name.as_ptr(),
            raw::rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_LITERAL,
            user.as_ptr(),
            host.as_ptr(),
            operation,
            raw::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
            ptr::null_mut(),
            0,
        );
        ensure!(!binding.is_null(), "no access list of {permission:?}");
        let queue = raw::rd_kafka_queue_new(client.native_ptr());
        raw::rd_kafka_CreateAcls(client.native_ptr(), &raw mut binding, 1, ptr::null(), queue);
        let event = raw::rd_kafka_queue_poll(queue, -1);
        let mut code = raw::rd_kafka_event_error(event);
        let result = raw::rd_kafka_event_CreateAcls_result(event);
        if !result.is_null() {
            let mut count = 0;
            let answers = raw::rd_kafka_CreateAcls_result_acls(result, &raw mut count);
            for at in 0..count {
                let error = raw::rd_kafka_acl_result_error(*answers.add(at));
                if !error.is_null() {
                    code = raw::rd_kafka_error_code(error);
                }
            }
        }
        raw::rd_kafka_event_destroy(event);
        raw::rd_kafka_queue_destroy(queue);
        raw::rd_kafka_AclBinding_destroy(binding);
        code
    };
    ensure!(code == raw::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR, "{permission:?} is not allowed: {code:?}");
    Ok(())
}
