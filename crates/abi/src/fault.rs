//! Why the program refuses: the custom error codes of its instructions.

/// Declares the faults: code, name, what a person should read.
macro_rules! faults {
    ($($code:literal $name:ident $words:literal)*) => {
        /// Why an instruction was refused. No refused instruction changes an account.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
        #[repr(u32)]
        pub enum Fault {
            $(#[doc = concat!("Code ", $code, ".")] #[error($words)] $name = $code,)*
        }

        impl Fault {
            /// Every fault, by code.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The fault with this custom error code.
            pub fn from_code(code: u32) -> Option<Self> {
                Self::ALL.iter().copied().find(|fault| fault.code() == code)
            }

            /// Its custom error code.
            pub const fn code(self) -> u32 {
                self as u32
            }

            /// Its name, as it is logged and as interfaces list it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

faults! {
    1 UnknownInstruction "no instruction has this tag: use a client of the same version"
    2 BadData "the instruction's data is shorter or longer than its body: use a client of the same version"
    3 TooFewAccounts "accounts are missing: pass every account that the instruction lists"
    4 NotSigned "an account that must sign did not: sign with it"
    5 NotWritable "an account that must be writable is not: mark it writable"
    6 NotOurs "an account does not belong to this program: it is closed, delegated, or another program's"
    7 WrongAddress "an account is not the one that belongs here: derive its address again"
    8 WrongSize "an account has not the size of its layout: make it again"
    9 WrongKind "an account holds something else, or another format version"
    10 Exists "the account exists already: choose another id, or go on with this one"
    11 NotAllowed "the signer may not do this: sign with the owner's, payer's, operator's or seat's key"
    12 BadManifest "the manifest asks for sizes that no shard or page can have: build the cartridge again"
    13 WorldStatus "the world is not at this stage: write and check a draft, play a ready one"
    14 SessionsLive "sessions of this world are open: close them first"
    15 OutOfRange "the bytes or indices lie outside the account: use offsets inside it"
    16 WrongRoot "the weights hash to another root than the manifest's: reopen the world and write them again"
    17 SessionStatus "the match is not at this stage"
    18 NoSuchSeat "a match has seats 0 and 1"
    19 SeatTaken "somebody sits there: take the other seat"
    20 BadSeat "the seat's kind or key cannot be used: give a person's key, or let the payer seat a machine"
    21 NotYourSeat "only the seat's own key may do this"
    22 AlreadyReady "the seat is ready: its character stands"
    23 NoSuchStart "the world has no start for this stage and these characters: choose others"
    24 PagesMissing "pages of hidden state are missing: create them all before the match"
    25 BadPad "the pad has an axis or a button out of range: clamp it"
    26 StaleInput "the pad is not newer than the one that is there: raise its sequence"
    27 BadSignature "the signature is not of this seat, or of no later frame than the last"
    28 BadModel "the shards are not a model that this program runs"
    29 FrameOrder "the frame in progress is at another part: begin, run every layer, finish"
    30 NotAbandoned "the other player has been heard within the grace: wait"
    31 BadReason "a player can only quit, or claim that the other one is gone"
    32 AlreadyRecorded "this was recorded before: once is enough"
    33 ReplayStatus "the replay is not at this stage"
    34 ReplayMismatch "the replay's header is not the recorded match's"
    35 NotDelegation "only the delegation program may call back"
    36 NotOver "the session can still be played: end it, or wait until it is old enough to close"
    37 BadKernels "no such kernels: 0 plain, 1 matrices by syscall, 2 matrices and scan by syscall"
    38 SameAccount "one account stands in two places, and is written in one of them: pass both accounts"
}
