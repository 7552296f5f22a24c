//! Verbatim tests of rows: names, order, nulls and types of values as in the documentation's examples.

use super::address::Version;
use super::blocked_users::BlockEvent;
use super::calls::Call;
use super::direct_routing::DirectRoutingCall;
use super::log::LogRow;
use super::sms::Message;
use super::world::Charge;
use super::*;

#[test]
fn call_is_written_as_documented() {
    let call = Call {
        charge: Some(Charge(12_345)),
        ..Call::at(7, time("2019-11-01T00:00:08.2589935Z"))
    };
    let v1 = r#"{"id":"00000000-0000-0000-0000-000000000007","callId":"7@192.0.2.7","userId":"00000000-0000-4000-8000-000000000007","userPrincipalName":"user7@contoso.com","userDisplayName":"User 7","startDateTime":"2019-11-01T00:00:08.2589935Z","endDateTime":"2019-11-01T00:01:08.2589935Z","duration":60,"charge":1.2345,"callType":"user_out","currency":"USD","calleeNumber":"+1206555***","usageCountryCode":"US","tenantCountryCode":"US","connectionCharge":0.00,"callerNumber":"+1425555***","destinationContext":"Domestic","destinationName":"United States","conferenceId":null,"licenseCapability":"MCOPSTN1","inventoryType":"Subscriber","operator":"Microsoft","callDurationSource":"microsoft"}"#;
    check(
        &call,
        v1,
        r#","otherPartyCountryCode":"US","clientPublicIpV4Address":"203.0.113.7","clientPublicIpV6Address":null,"clientLocalIpV4Address":"192.168.1.7","clientLocalIpV6Address":"2001:db8::7","administrativeUnitInfos":[{"id":"639b616c-f164-4a6f-a933-24936b8eb210"}]}"#,
    );
    let bot = Call {
        user: None,
        call_type: Some("ucap_in".into()),
        destination_context: None,
        destination: None,
        usage_country: None,
        license: None,
        currency: None,
        charge: None,
        connection_charge: None,
        ..call
    };
    let nulls = [
        r#""userId":"00000000-0000-4000-8000-000000000007""#,
        r#""userPrincipalName":"user7@contoso.com""#,
        r#""userDisplayName":"User 7""#,
        r#""charge":1.2345"#,
        r#""currency":"USD""#,
        r#""usageCountryCode":"US""#,
        r#""connectionCharge":0.00"#,
        r#""destinationContext":"Domestic""#,
        r#""destinationName":"United States""#,
        r#""licenseCapability":"MCOPSTN1""#,
    ];
    let mut expected = v1.replace("user_out", "ucap_in");
    for field in nulls {
        let (name, _) = field.split_once(':').unwrap();
        assert!(expected.contains(field), "{field}");
        expected = expected.replace(field, &format!("{name}:null"));
    }
    assert_eq!(bot.json(Version::V1), expected);
}

#[test]
fn direct_routing_call_is_written_as_documented() {
    let call = DirectRoutingCall::at(7, time("2019-11-01T00:00:25.105Z"));
    let v1 = r#"{"id":"00000000-0000-0000-0000-000000000007","correlationId":"ffffffff-ffff-ffff-ffff-fffffffffff8","userId":"00000000-0000-4000-8000-000000000007","userPrincipalName":"user7@contoso.com","userDisplayName":"User 7","startDateTime":"2019-11-01T00:00:25.105Z","inviteDateTime":"2019-11-01T00:00:21.949Z","failureDateTime":"0001-01-01T00:00:00Z","endDateTime":"2019-11-01T00:01:25.105Z","duration":60,"callType":"ByotOut","successfulCall":true,"callerNumber":"+1425555***","calleeNumber":"+1206555***","mediaPathLocation":"USWE","signalingLocation":"EUNO","finalSipCode":0,"callEndSubReason":540000,"finalSipCodePhrase":"BYE","trunkFullyQualifiedDomainName":"sbc1.contoso.com","mediaBypassEnabled":false}"#;
    check(
        &call,
        v1,
        r#","userCountryCode":"US","transferorCorrelationId":null,"otherPartyCountryCode":"US","administrativeUnitInfos":[{"id":"639b616c-f164-4a6f-a933-24936b8eb210"}]}"#,
    );
    let failed = DirectRoutingCall {
        seconds: 0,
        is_successful: Some(false),
        sip_code: Some(486),
        sip_phrase: Some("Busy Here".into()),
        ..call
    };
    let json = failed.json(Version::V1);
    for field in [
        r#""failureDateTime":"2019-11-01T00:00:25.105Z","endDateTime":"0001-01-01T00:00:00Z","duration":0"#,
        r#""successfulCall":false"#,
        r#""finalSipCode":486,"callEndSubReason":560486,"finalSipCodePhrase":"Busy Here""#,
    ] {
        assert!(json.contains(field), "{json}");
    }
}

#[test]
fn message_is_written_as_documented() {
    let message = Message {
        charge: Some(Charge(83)),
        ..Message::at(7, time("2022-10-06T11:15:48.6113555Z"))
    };
    assert_eq!(
        message.json(Version::Beta),
        r#"{"id":"00000000-0000-0000-0000-000000000007","smsId":"ffffffff-ffff-ffff-ffff-fffffffffff8","userId":"00000000-0000-4000-8000-000000000007","userPrincipalName":"user7@contoso.com","userDisplayName":"User 7","userCountryCode":"US","tenantCountryCode":"US","sourceNumber":"+12818602122","destinationNumber":"+1267317****","sentDateTime":"2022-10-06T11:15:48.6113555Z","callCharge":0.0083,"currency":"USD","smsType":"sms_out","destinationContext":"Domestic","destinationName":"United States","otherPartyCountryCode":"US","licenseCapability":"MCOSMS1","smsUnits":1,"administrativeUnitInfos":[{"id":"639b616c-f164-4a6f-a933-24936b8eb210"}]}"#
    );
}

#[test]
fn block_is_written_as_documented() {
    let event = BlockEvent::at(7, time("2022-11-23T13:51:09.796Z"));
    assert_eq!(
        event.json(Version::Beta),
        r#"{"userId":"00000000-0000-4000-8000-000000000007","userPrincipalName":"user7@contoso.com","userDisplayName":"User 7","blockDateTime":"2022-11-23T13:51:09.796Z","userTelephoneNumber":"+37212345678","userBlockMode":"Blocked","blockReason":"High Overall Usage","remediationId":"00000000-0000-0000-0000-000000000007"}"#
    );
}

/// In beta a row has more fields, after the others.
fn check(row: &impl LogRow, v1: &str, more: &str) {
    assert_eq!(row.json(Version::V1), v1);
    let without_brace = v1.strip_suffix('}').unwrap();
    assert_eq!(row.json(Version::Beta), format!("{without_brace}{more}"));
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}
